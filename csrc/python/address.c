#include "python/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

/* The path of a Unix address: a str, bytes in the abstract name space, or ''
 * for an end without a name, as in the socket module. */
static PyObject *
unix_path(const struct tws_address *address)
{
    const struct sockaddr_un *sun =
        (const struct sockaddr_un *)&address->storage;
    size_t header = offsetof(struct sockaddr_un, sun_path);
    size_t length = address->length > header ? address->length - header : 0;
    if (length > 0 && sun->sun_path[0] == '\0') {
        return PyBytes_FromStringAndSize(sun->sun_path, (Py_ssize_t)length);
    }
    length = strnlen(sun->sun_path, length);
    return PyUnicode_DecodeFSDefaultAndSize(sun->sun_path, (Py_ssize_t)length);
}

/* The numeric host and the port of an IPv4 or IPv6 address; -1 with OSError
 * for any other family. */
static int
host_and_port(const struct tws_address *address, char host[INET6_ADDRSTRLEN],
              int *port)
{
    int family = address->storage.ss_family;
    const void *number;
    if (family == AF_INET) {
        const struct sockaddr_in *sin =
            (const struct sockaddr_in *)&address->storage;
        number = &sin->sin_addr;
        *port = ntohs(sin->sin_port);
    }
    else if (family == AF_INET6) {
        const struct sockaddr_in6 *sin =
            (const struct sockaddr_in6 *)&address->storage;
        number = &sin->sin6_addr;
        *port = ntohs(sin->sin6_port);
    }
    else {
        PyErr_Format(PyExc_OSError,
                     "address family is %d, expected AF_INET, AF_INET6 or "
                     "AF_UNIX",
                     family);
        return -1;
    }
    if (inet_ntop(family, number, host, INET6_ADDRSTRLEN) == NULL) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return 0;
}

PyObject *
tws_address_object(const struct tws_address *address)
{
    char host[INET6_ADDRSTRLEN];
    int port;
    if (address->storage.ss_family == AF_UNIX) {
        return unix_path(address);
    }
    if (host_and_port(address, host, &port) < 0) {
        return NULL;
    }
    if (address->storage.ss_family == AF_INET) {
        return Py_BuildValue("(si)", host, port);
    }
    const struct sockaddr_in6 *sin =
        (const struct sockaddr_in6 *)&address->storage;
    return Py_BuildValue("(siII)", host, port,
                         (unsigned)ntohl(sin->sin6_flowinfo),
                         (unsigned)sin->sin6_scope_id);
}

PyObject *
tws_address_text(const struct tws_address *address)
{
    char host[INET6_ADDRSTRLEN];
    int port;
    if (address->storage.ss_family != AF_UNIX) {
        if (host_and_port(address, host, &port) < 0) {
            return NULL;
        }
        return PyUnicode_FromFormat(
            address->storage.ss_family == AF_INET ? "%s:%d" : "[%s]:%d", host,
            port);
    }
    PyObject *path = unix_path(address);
    if (path != NULL && PyObject_Size(path) == 0) {
        Py_SETREF(path, PyUnicode_FromString("unix"));
    }
    if (path != NULL && PyBytes_Check(path)) {
        Py_SETREF(path, PyObject_Repr(path));
    }
    return path;
}

int
tws_address_of_peer(int fd, struct tws_address *address)
{
    address->length = sizeof(address->storage);
    if (getpeername(fd, (struct sockaddr *)&address->storage, &address->length)
        < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return 0;
}

int
tws_address_of_socket(int fd, struct tws_address *address)
{
    address->length = sizeof(address->storage);
    if (getsockname(fd, (struct sockaddr *)&address->storage, &address->length)
        < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return 0;
}
