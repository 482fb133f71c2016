/* Where a client connects to, and by which way, from Python's arguments. */
#ifndef TWS_PYTHON_DESTINATION_H
#define TWS_PYTHON_DESTINATION_H

#include "python/state.h"

#include "net/proxying.h"

/* A name or an address in figures, or the address of a Unix socket. */
struct tws_destination {
    char host[TWS_HOST_MAX + 1]; /* "": this machine */
    uint16_t port;
    bool is_unix;
    struct tws_address address; /* where is_unix */
};

/* (host, port), or a path for AF_UNIX. -1 with an exception. */
int tws_destination_read(PyObject *address, int family,
                         struct tws_destination *to);

/* (scheme, host, port, username, password) of a proxy, which `parts` keeps
 * alive: *proxy borrows from it and from `host`, and has no TLS context. -1
 * with an exception, which never shows the credentials. */
int tws_destination_read_proxy(PyObject *parts, struct tws_proxy *proxy,
                               char host[TWS_HOST_MAX + 1]);

#endif /* TWS_PYTHON_DESTINATION_H */
