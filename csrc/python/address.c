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

/* Quotes a name that would not stay on its line in a log. Takes over `name`,
 * which may be NULL. */
static PyObject *
quote_unprintable(PyObject *name)
{
    PyObject *printable =
        name == NULL ? NULL : PyObject_CallMethod(name, "isprintable", NULL);
    if (printable == NULL) {
        Py_CLEAR(name);
    }
    else if (printable == Py_False) {
        Py_SETREF(name, PyObject_ASCII(name));
    }
    Py_XDECREF(printable);
    return name;
}

static PyObject *
unix_text(const struct tws_address *address)
{
    PyObject *path = unix_path(address);
    const char *format = "unix:%U";
    if (path == NULL) {
        return NULL;
    }
    if (PyObject_Size(path) == 0) {
        Py_DECREF(path);
        return address->pid > 0
                   ? PyUnicode_FromFormat("unix:pid=%ld", (long)address->pid)
                   : PyUnicode_FromString("unix");
    }
    if (PyBytes_Check(path)) {
        /* As other programs write it; the name begins behind its NUL. */
        format = "unix:@%U";
        Py_SETREF(path, PyUnicode_DecodeFSDefaultAndSize(
                            PyBytes_AS_STRING(path) + 1,
                            PyBytes_GET_SIZE(path) - 1));
    }
    path = quote_unprintable(path);
    PyObject *text = path == NULL ? NULL : PyUnicode_FromFormat(format, path);
    Py_XDECREF(path);
    return text;
}

/* An IPv4 client of a dual-stack socket as what it is. */
static bool
unmap(const struct tws_address *address, struct tws_address *unmapped)
{
    const struct sockaddr_in6 *sin6 =
        (const struct sockaddr_in6 *)&address->storage;
    struct sockaddr_in *sin = (struct sockaddr_in *)&unmapped->storage;
    if (address->storage.ss_family != AF_INET6
        || !IN6_IS_ADDR_V4MAPPED(&sin6->sin6_addr)) {
        return false;
    }
    *unmapped = (struct tws_address){.length = sizeof(*sin)};
    sin->sin_family = AF_INET;
    sin->sin_port = sin6->sin6_port;
    memcpy(&sin->sin_addr, &sin6->sin6_addr.s6_addr[12],
           sizeof(sin->sin_addr));
    return true;
}

PyObject *
tws_address_text(const struct tws_address *address)
{
    char host[INET6_ADDRSTRLEN];
    int port;
    struct tws_address unmapped;
    if (address->storage.ss_family == AF_UNIX) {
        return unix_text(address);
    }
    if (unmap(address, &unmapped)) {
        address = &unmapped;
    }
    if (host_and_port(address, host, &port) < 0) {
        return NULL;
    }
    return PyUnicode_FromFormat(
        address->storage.ss_family == AF_INET ? "%s:%d" : "[%s]:%d", host,
        port);
}

int
tws_address_of_peer(int fd, struct tws_address *address)
{
    *address = (struct tws_address){.length = sizeof(address->storage)};
    if (getpeername(fd, (struct sockaddr *)&address->storage, &address->length)
        < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    if (address->storage.ss_family == AF_UNIX
        && address->length <= offsetof(struct sockaddr_un, sun_path)) {
        address->pid = tws_socket_peer_pid(fd);
    }
    return 0;
}

int
tws_address_of_socket(int fd, struct tws_address *address)
{
    *address = (struct tws_address){.length = sizeof(address->storage)};
    if (getsockname(fd, (struct sockaddr *)&address->storage, &address->length)
        < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return 0;
}
