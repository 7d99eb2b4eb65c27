"""Proxies that mirror: nginx, Envoy and Traefik between the clients and the primary, with the sidecar as the mirror's target.

Each starts one on a free port of 127.0.0.1 and gives its address.
"""

import json
from contextlib import contextmanager
from urllib.request import urlopen

from processes import free_port, listening, running

# Where the types of Envoy's configuration are.
EXTENSIONS = "type.googleapis.com/envoy.extensions"
# An id on both legs is all that the sidecar needs. nginx reads the body, then begins the mirror as a subrequest; that
# has the variables of the request, so $request_id is the same. grpc_pass takes no URI: the subrequest's own is sent,
# which is the name of the location, unless it is rewritten; or else the sidecar is told by x-original-uri.
#
# Until the copy is answered, nginx counts the user's stream as open, though the user has the answer; beyond
# http2_max_concurrent_streams (128) it refuses the next ones on that connection. So it has to be more than the requests
# that come within grpc_read_timeout (60 s), and that short: else a sidecar that hangs stops the users.
NGINX = """\
daemon off;
master_process off;
pid nginx.pid;
error_log stderr warn;
worker_rlimit_nofile 4096;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  upstream primary {{ server {primary}; keepalive 16; }}
  upstream sidecar {{ server {sidecar}; keepalive 16; }}
  server {{
    listen 127.0.0.1:{port};
    http2 on;
    http2_max_concurrent_streams 1024;
    location / {{
      mirror /mirror;
      grpc_set_header x-request-id $request_id;
      grpc_pass grpc://primary;
    }}
    location = /mirror {{
      internal;
      grpc_set_header x-request-id $request_id;
      {path}
      grpc_connect_timeout {timeout}s;
      grpc_read_timeout {timeout}s;
      grpc_pass grpc://sidecar;
    }}
  }}
}}
"""
NGINX_PATHS = {"rewritten": "rewrite ^ $request_uri break;", "told": "grpc_set_header x-original-uri $request_uri;"}


@contextmanager
def nginx(binary, place, primary, sidecar, path, timeout):
    """nginx's mirror module; `path` is how the sidecar learns which method was called: `rewritten` or `told`.

    `timeout` is how many seconds the sidecar has to answer a copy.
    """
    port = free_port()
    config = NGINX.format(primary=primary, sidecar=sidecar, port=port, path=NGINX_PATHS[path], timeout=timeout)
    (place / "nginx.conf").write_text(config, encoding="utf-8")
    command = [binary, "-p", place, "-c", place / "nginx.conf", "-e", "stderr"]
    with running("nginx", command, place, listening(port)):
        yield f"127.0.0.1:{port}"


def loopback(port):
    """That port of 127.0.0.1, as Envoy's configuration has it."""
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def cluster(name, address):
    """A server that speaks HTTP/2 in plain text."""
    socket = loopback(int(address.rsplit(":", 1)[1]))
    options = "upstreams.http.v3.HttpProtocolOptions"
    http2 = {"explicit_http_config": {"http2_protocol_options": {}}}
    return {
        "name": name,
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket}}]}],
        },
        "typed_extension_protocol_options": {
            f"envoy.extensions.{options}": {"@type": f"{EXTENSIONS}.{options}", **http2}
        },
    }


@contextmanager
def envoy(binary, place, primary, sidecar, *, suffix, shadow_id):
    """Envoy's RequestMirrorPolicy, as Istio configures it.

    `suffix` is whether the copies' authority ends in -shadow; with `shadow_id` both legs carry the stream's id as
    x-shadow-id, else the x-request-id that Envoy makes is all there is. The address, and that of its statistics.
    """
    port, admin = free_port(), free_port()
    mirror = {"cluster": "sidecar", "disable_shadow_host_suffix_append": not suffix}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "primary", "request_mirror_policies": [mirror]}}
    if shadow_id:
        route["request_headers_to_add"] = [{"header": {"key": "x-shadow-id", "value": "%STREAM_ID%"}}]
    router = f"{EXTENSIONS}.filters.http.router.v3.Router"
    manager = {
        "@type": f"{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress",
        "codec_type": "AUTO",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": router}}],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    listener = {"name": "clients", "address": loopback(port), "filter_chains": [{"filters": filters}]}
    clusters = [cluster("primary", primary), cluster("sidecar", sidecar)]
    config = {
        "admin": {"address": loopback(admin)},
        "static_resources": {"listeners": [listener], "clusters": clusters},
    }
    (place / "envoy.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    command = [binary, "-c", place / "envoy.json", "--disable-hot-restart", "--concurrency", "1", "-l", "warning"]
    with running("envoy", command, place, listening(port)):
        yield f"127.0.0.1:{port}", f"127.0.0.1:{admin}"


def copies(admin):
    """What Envoy has counted of the requests that it sent to the sidecar."""
    wanted = "filter=^cluster.sidecar.(upstream_rq_|upstream_cx_|circuit_breakers)&usedonly"
    with urlopen(f"http://{admin}/stats?{wanted}", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    counts = (line.removeprefix("cluster.sidecar.") for line in lines if ": " in line and "P0(" not in line)
    return ", ".join(count for count in counts if not count.endswith(": 0"))


def routed(admin):
    """Whether Traefik has read its routes; to ask by a request would be a copy more."""

    def ask():
        try:
            urlopen(f"http://127.0.0.1:{admin}/api/http/services/mirrored@file", timeout=1).close()
        except OSError:
            return False
        return True

    return ask


@contextmanager
def traefik(binary, place, primary, sidecar):
    """Traefik's mirroring, over HTTP/2 in plain text. It adds no id: what is joined is joined by the body."""
    port, admin = free_port(), free_port()
    static = {
        "entryPoints": {name: {"address": f"127.0.0.1:{at}"} for name, at in (("clients", port), ("traefik", admin))},
        "api": {"insecure": True, "dashboard": False},
        "providers": {"file": {"filename": str(place / "dynamic.yml")}},
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "log": {"level": "WARN"},
    }
    servers = {
        name: {"loadBalancer": {"servers": [{"url": f"h2c://{address}"}]}}
        for name, address in (("primary", primary), ("sidecar", sidecar))
    }
    mirrored = {"mirroring": {"service": "primary", "mirrors": [{"name": "sidecar", "percent": 100}]}}
    dynamic = {
        "http": {
            "routers": {"all": {"rule": "PathPrefix(`/`)", "service": "mirrored", "entryPoints": ["clients"]}},
            "services": servers | {"mirrored": mirrored},
        }
    }
    # JSON is YAML.
    (place / "traefik.yml").write_text(json.dumps(static, indent=1), encoding="utf-8")
    (place / "dynamic.yml").write_text(json.dumps(dynamic, indent=1), encoding="utf-8")
    with running("traefik", [binary, f"--configFile={place / 'traefik.yml'}"], place, routed(admin)):
        yield f"127.0.0.1:{port}"
