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

PyObject *
tws_address_object(const struct tws_address *address)
{
    char host[INET6_ADDRSTRLEN];
    switch (address->storage.ss_family) {
    case AF_INET: {
        const struct sockaddr_in *sin =
            (const struct sockaddr_in *)&address->storage;
        if (inet_ntop(AF_INET, &sin->sin_addr, host, sizeof(host)) == NULL) {
            return PyErr_SetFromErrno(PyExc_OSError);
        }
        return Py_BuildValue("(si)", host, (int)ntohs(sin->sin_port));
    }
    case AF_INET6: {
        const struct sockaddr_in6 *sin =
            (const struct sockaddr_in6 *)&address->storage;
        if (inet_ntop(AF_INET6, &sin->sin6_addr, host, sizeof(host)) == NULL) {
            return PyErr_SetFromErrno(PyExc_OSError);
        }
        return Py_BuildValue("(siII)", host, (int)ntohs(sin->sin6_port),
                             (unsigned)ntohl(sin->sin6_flowinfo),
                             (unsigned)sin->sin6_scope_id);
    }
    case AF_UNIX:
        return unix_path(address);
    default:
        PyErr_Format(PyExc_OSError,
                     "address family is %d, expected AF_INET, AF_INET6 or "
                     "AF_UNIX",
                     (int)address->storage.ss_family);
        return NULL;
    }
}

PyObject *
tws_address_text(const struct tws_address *address)
{
    char host[INET6_ADDRSTRLEN];
    switch (address->storage.ss_family) {
    case AF_INET: {
        const struct sockaddr_in *sin =
            (const struct sockaddr_in *)&address->storage;
        if (inet_ntop(AF_INET, &sin->sin_addr, host, sizeof(host)) == NULL) {
            return PyErr_SetFromErrno(PyExc_OSError);
        }
        return PyUnicode_FromFormat("%s:%d", host, (int)ntohs(sin->sin_port));
    }
    case AF_INET6: {
        const struct sockaddr_in6 *sin =
            (const struct sockaddr_in6 *)&address->storage;
        if (inet_ntop(AF_INET6, &sin->sin6_addr, host, sizeof(host)) == NULL) {
            return PyErr_SetFromErrno(PyExc_OSError);
        }
        return PyUnicode_FromFormat("[%s]:%d", host,
                                    (int)ntohs(sin->sin6_port));
    }
    default: {
        PyObject *path = unix_path(address);
        if (path != NULL && PyObject_Size(path) == 0) {
            Py_SETREF(path, PyUnicode_FromString("unix"));
        }
        if (path != NULL && PyBytes_Check(path)) {
            Py_SETREF(path, PyObject_Repr(path));
        }
        return path;
    }
    }
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
