// Package ext is where a build of Traefik can add to its dynamic configuration; this one does not.
package ext

// HTTP is nothing more in the section `http`.
type HTTP struct{}

// Router is nothing more in a router.
type Router struct{}
