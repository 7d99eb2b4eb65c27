"""One scene for each intake and kind of peer: who stands where."""

from collections.abc import Callable
from dataclasses import dataclass

from stage import CLASSES, OUTPUTS, SLICES

SCENES = []
# Requests a second that a sidecar on a busy machine, built without optimisation, is sure to keep up with: nginx neither
# waits for it nor gives up a copy, and has room for so many only.
NGINX_RATE = 300
# A server that has too much to do refuses, as it should.
GENTLY = ("--concurrency", "4")
REMOTE = {"good": "adult-candidate", "bad": "adult-candidate-bad"}


@dataclass
class Scene:
    """A rehearsal behind an intake, and which peers it needs."""

    intake: str
    name: str
    needs: tuple
    play: Callable


def scene(intake, *needs):
    """Notes a scene; its name is the intake's and the function's."""

    def note(play):
        name = play.__name__.replace("_", "-")
        SCENES.append(Scene(intake, f"{intake}-{name}", needs, play))
        return play

    return note


def foreign(side, peer):
    """Flags that say how a server that is not ours is to be understood."""
    return f"--{side}-classes", CLASSES, f"--{side}-scores-output", OUTPUTS[peer]


@scene("tap")
def packages(stage):
    """Our server's tap; both candidates in the sidecar's own process."""
    primary = stage.server()
    sidecar = stage.sidecar("tap", primary, *stage.packages(), *SLICES)
    stage.send(primary)
    stage.check(sidecar)


@scene("tap")
def remote(stage):
    """Two models of another server of ours, beside one sidecar."""
    primary, candidates = stage.server(), stage.server(".")
    tables = [{"name": name, "url": f"http://{candidates}", "model": model} for name, model in REMOTE.items()]
    sidecar = stage.sidecar("tap", primary, *GENTLY, *stage.tables(tables))
    stage.send(primary)
    stage.check(sidecar)


def candidate_elsewhere(stage, peer):
    """Our server's tap; the candidate's trees on a server that is not ours."""
    primary, candidate = stage.server(), stage.other(peer, "adult-candidate-bad")
    flags = ("--candidates", f"bad=http://{candidate}", "--candidate-model", "adult", *foreign("candidate", peer))
    sidecar = stage.sidecar("tap", primary, *GENTLY, *flags, name="bad")
    stage.send(primary, matrix_only=True)
    stage.check(sidecar, {"bad": "adult_candidate_bad"})


@scene("tap", "mlserver")
def candidate_on_mlserver(stage):
    """See candidate_elsewhere."""
    candidate_elsewhere(stage, "mlserver")


@scene("tap", "triton")
def candidate_on_triton(stage):
    """See candidate_elsewhere."""
    candidate_elsewhere(stage, "triton")


@scene("mirror", "nginx")
def nginx(stage):
    """The path of the copies is kept; joined with the tap by x-request-id."""
    primary = stage.server()
    sidecar = stage.sidecar("mirror", primary, *stage.packages(), *SLICES)
    stage.send(stage.nginx(primary, sidecar, "rewritten"), a_second=NGINX_RATE)
    stage.check(sidecar)


@scene("mirror", "nginx")
def nginx_without_tap(stage):
    """The path of the copies is that of nginx's location; the primary is asked again, by and by twice."""
    primary = stage.server()
    flags = ("--primary-tap", "off", "--primary-model", "adult", "--primary-classes", CLASSES)
    sidecar = stage.sidecar("mirror", primary, *flags, *stage.packages())
    stage.send(stage.nginx(primary, sidecar, "told"), a_second=NGINX_RATE)
    stage.check(sidecar, noise=True)


@scene("mirror", "nginx")
def nginx_with_a_sidecar_that_hangs(stage):
    """No user notices, while copies time out before there are too many of them."""
    primary = stage.server()
    sidecar = stage.sidecar("mirror", primary, *stage.packages())
    address = stage.nginx(primary, sidecar, "rewritten", timeout=1)
    with stage.hanging(sidecar):
        stage.send(address, a_second=NGINX_RATE)
    stage.say(f"{stage.requests} answers, all of them LightGBM's, while nobody answered a copy")


@scene("mirror", "envoy")
def envoy(stage):
    """As Istio 1.28 and later have it: no suffix; joined by the x-request-id that Envoy makes."""
    primary = stage.server()
    sidecar = stage.sidecar("mirror", primary, *stage.packages(), *SLICES)
    stage.send(stage.envoy(primary, sidecar, suffix=False, shadow_id=False))
    stage.check(sidecar)


@scene("mirror", "envoy")
def envoy_with_suffix(stage):
    """Envoy's default: the authority ends in -shadow; joined by the stream's id."""
    primary = stage.server()
    sidecar = stage.sidecar("mirror", primary, *stage.packages())
    stage.send(stage.envoy(primary, sidecar, suffix=True, shadow_id=True))
    stage.check(sidecar)


@scene("mirror", "envoy")
def envoy_with_a_sidecar_that_hangs(stage):
    """No user notices."""
    primary = stage.server()
    sidecar = stage.sidecar("mirror", primary, *stage.packages())
    address = stage.envoy(primary, sidecar, suffix=False, shadow_id=True)
    with stage.hanging(sidecar):
        stage.send(address)
    stage.say(f"{stage.requests} answers, all of them LightGBM's, while nobody answered a copy")


@scene("mirror", "traefik")
def traefik(stage):
    """Without any id: joined with the tap by the body."""
    primary = stage.server()
    sidecar = stage.sidecar("mirror", primary, *stage.packages(), *SLICES)
    stage.send(stage.traefik(primary, sidecar))
    stage.check(sidecar)


@scene("mirror", "traefik")
def traefik_with_a_sidecar_that_hangs(stage):
    """No user notices."""
    primary = stage.server()
    sidecar = stage.sidecar("mirror", primary, *stage.packages())
    address = stage.traefik(primary, sidecar)
    with stage.hanging(sidecar):
        stage.send(address)
    stage.say(f"{stage.requests} answers, all of them LightGBM's, while nobody answered a copy")


@scene("mirror", "envoy", "mlserver")
def envoy_before_mlserver(stage):
    """What many run today: MLServer behind a mesh, without a tap, and so asked again."""
    primary = stage.other("mlserver")
    flags = ("--primary-model", "adult", *foreign("primary", "mlserver"))
    sidecar = stage.sidecar("mirror", primary, *flags, *stage.packages())
    stage.send(stage.envoy(primary, sidecar, suffix=True, shadow_id=False), matrix_only=True)
    stage.check(sidecar, noise=True)


@scene("proxy")
def understudy(stage):
    """Our own server, as if it could not be tapped."""
    sidecar = stage.sidecar("proxy", stage.server(), *stage.packages(), *SLICES)
    stage.send(sidecar)
    stage.check(sidecar)


def primary_elsewhere(stage, peer):
    """A primary that can't be tapped, our packages as candidates."""
    flags = ("--primary-model", "adult", *foreign("primary", peer))
    sidecar = stage.sidecar("proxy", stage.other(peer), *flags, *stage.packages())
    stage.send(sidecar, matrix_only=True)
    stage.check(sidecar)


@scene("proxy", "mlserver")
def mlserver(stage):
    """See primary_elsewhere."""
    primary_elsewhere(stage, "mlserver")


@scene("proxy", "triton")
def triton(stage):
    """See primary_elsewhere."""
    primary_elsewhere(stage, "triton")


@scene("proxy", "mlserver", "triton")
def triton_before_mlserver(stage):
    """Nothing of ours but the sidecar: from Triton to MLServer."""
    primary, candidate = stage.other("triton"), stage.other("mlserver", "adult-candidate")
    flags = ("--primary-model", "adult", "--candidates", f"good=http://{candidate}", "--candidate-model", "adult")
    flags += (*foreign("primary", "triton"), *foreign("candidate", "mlserver"))
    sidecar = stage.sidecar("proxy", primary, *flags)
    stage.send(sidecar, matrix_only=True)
    stage.check(sidecar, {"good": "adult_candidate"})
