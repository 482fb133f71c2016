/* A websocket for any address family: without a descriptor until connect() has
 * found one, and without its last one where it asks once more. */
#include "python/websocket_parts.h"

#include "python/errors.h"

#include <fcntl.h>
#include <unistd.h>

int
tws_websocket_stay_bare(WebsocketObject *ws, int proto)
{
    PyObject *seconds = PyObject_CallNoArgs(ws->state->getdefaulttimeout);
    if (seconds == NULL
        || tws_timeout_from_object(seconds, "timeout", &ws->timeout) < 0) {
        Py_XDECREF(seconds);
        return -1;
    }
    Py_DECREF(seconds);
    ws->bare = ws->any_family = true;
    ws->ip_protocol = proto;
    ws->phase = TWS_PHASE_BARE;
    return 0;
}

int
tws_websocket_dress(WebsocketObject *ws, int fd)
{
    struct tws_error err;
    PyObject *sock = NULL;
    if (tws_socket_prepare(fd, &err) != TWS_OK) {
        (void)tws_raise(ws->state, &err);
    }
    else {
        /* -1: Python asks the descriptor itself. */
        sock =
            PyObject_CallFunction(ws->state->socket, "iiii", -1, -1, -1, fd);
    }
    if (sock == NULL) {
        close(fd);
        return -1;
    }
    pthread_mutex_lock(&ws->guard);
    ws->socket = sock;
    tws_transport_plain(&ws->transport, fd);
    ws->bare = false;
    pthread_mutex_unlock(&ws->guard);
    return 0;
}

/* A new socket under the number of the old one, whose connection ends. */
static int
renew_descriptor(WebsocketObject *ws)
{
    int fd = ws->transport.fd;
    int family = AF_INET;
    int proto = 0;
    int result = -1;
    socklen_t size = sizeof(int);
    (void)getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &size);
    (void)getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &proto, &size);
    int fresh =
        socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, proto);
    struct tws_error err;
    if (fresh < 0 || dup3(fresh, fd, O_CLOEXEC) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
    }
    else if (tws_socket_prepare(fd, &err) != TWS_OK) {
        (void)tws_raise(ws->state, &err);
    }
    else {
        result = 0;
    }
    if (fresh >= 0) {
        close(fresh);
    }
    return result;
}

/* As it was before it had one. */
static int
undress(WebsocketObject *ws)
{
    pthread_mutex_lock(&ws->guard);
    PyObject *sock = ws->socket;
    ws->socket = NULL;
    ws->transport = (struct tws_transport){.fd = -1};
    ws->bare = true;
    pthread_mutex_unlock(&ws->guard);
    Py_CLEAR(ws->bridge);
    PyObject *result = PyObject_CallMethod(sock, "close", NULL);
    Py_DECREF(sock);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
tws_websocket_start_over(WebsocketObject *ws)
{
    /* With an ssl.SSLContext the descriptor is the bridge's. */
    return ws->any_family || ws->bridge != NULL ? undress(ws)
                                                : renew_descriptor(ws);
}
