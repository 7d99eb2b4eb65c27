// Traefik as it is released, but for what is built of modules that the Go module proxy does not give out: the clients of a hundred DNS
// providers, with which it would get certificates, and a fork of the library behind its two middlewares that ask for passwords.
// `build` puts lego and auth here: the modules themselves with our file in them. The other replacements are Traefik's own.
module understudy/tests/interop/intakes/traefik

go 1.26.0

require (
	github.com/abbot/go-http-auth v0.4.0
	github.com/traefik/traefik/v3 v3.7.13
)

replace (
	github.com/abbot/go-http-auth => ./auth
	github.com/go-acme/lego/v5 => ./lego
	github.com/gorilla/mux => github.com/containous/mux v0.0.0-20250523120546-41b6ec3aed59
	github.com/traefik/traefik/dynamic/ext => ./ext
)

exclude github.com/tencentcloud/tencentcloud-sdk-go v3.0.83+incompatible
