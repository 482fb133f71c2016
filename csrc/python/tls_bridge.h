/* TLS by way of an ssl.SSLContext: the bridges of twspy/_tls_bridge.py, each
 * with the addresses of the socket behind it. A bridge is a tuple here, and
 * goes with the connection whose bytes it carries. */
#ifndef TWS_PYTHON_TLS_BRIDGE_H
#define TWS_PYTHON_TLS_BRIDGE_H

#include "python/state.h"

#include "net/socket.h"

/* What getsockname() and getpeername() say of the peer's own socket; the
 * length is 0 where they say nothing. */
struct tws_bridge_names {
    struct tws_address own;
    struct tws_address peer;
};

/* Puts a bridge over the connected descriptor *fd, which it takes over; *fd
 * becomes the one that carries what is decrypted, or -1. `host` is the name
 * that a server's certificate must be for, NULL on a server. NULL with an
 * exception. */
PyObject *tws_bridge_start(struct tws_state *state, PyObject *context, int *fd,
                           enum tws_role role, const char *host,
                           uint64_t open_timeout);

/* Borrowed from the bridge. */
const struct tws_bridge_names *tws_bridge_names(PyObject *bridge);

/* An attribute of twspy._tls_bridge.Bridged. */
PyObject *tws_bridge_get(PyObject *bridge, const char *name);

/* Bridges of connections that are no clients yet, in a dict by descriptor;
 * that of one which never became a client goes when its number comes again.
 * -1 with an exception. */
int tws_bridges_put(PyObject *bridges, int fd, PyObject *bridge);
/* Takes it out; *bridge is NULL where there is none. */
int tws_bridges_take(PyObject *bridges, int fd, PyObject **bridge);

#endif /* TWS_PYTHON_TLS_BRIDGE_H */
