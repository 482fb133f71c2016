/* Socket addresses as Python objects, in the form of the socket module. */
#ifndef TWS_PYTHON_ADDRESS_H
#define TWS_PYTHON_ADDRESS_H

#include "python/state.h"

#include "net/socket.h"

/* (host, port) for AF_INET, (host, port, flowinfo, scope_id) for AF_INET6, a
 * str or bytes (abstract) path for AF_UNIX. New reference. */
PyObject *tws_address_object(const struct tws_address *address);

/* For people: "host:port", also for an IPv4 address in IPv6 form (RFC 4291
 * section 2.5.5.2), or "[host]:port"; "unix:/path", "unix:@name" for an
 * abstract name, "unix:pid=1" or "unix" where there is no name. */
PyObject *tws_address_text(const struct tws_address *address);

/* The addresses of a descriptor; -1 with OSError. */
int tws_address_of_peer(int fd, struct tws_address *address);
int tws_address_of_socket(int fd, struct tws_address *address);

#endif /* TWS_PYTHON_ADDRESS_H */
