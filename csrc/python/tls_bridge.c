#include "python/tls_bridge.h"

#include <sys/socket.h>
#include <unistd.h>

static void
read_name(int (*get)(int, struct sockaddr *, socklen_t *), int fd,
          struct tws_address *address)
{
    *address = (struct tws_address){.length = sizeof(address->storage)};
    if (get(fd, (struct sockaddr *)&address->storage, &address->length) < 0) {
        address->length = 0; /* gone already: reading will tell */
    }
}

static PyObject *
timeout_object(uint64_t timeout)
{
    return timeout == UINT64_MAX ? Py_NewRef(Py_None)
                                 : PyFloat_FromDouble((double)timeout / 1e9);
}

/* Takes the plain end of what was started. */
static int
detach(PyObject *bridged)
{
    PyObject *number = PyObject_CallMethod(bridged, "detach", NULL);
    long fd = number == NULL ? -1 : PyLong_AsLong(number);
    Py_XDECREF(number);
    return (int)fd;
}

PyObject *
tws_bridge_start(struct tws_state *state, PyObject *context, int *fd,
                 enum tws_role role, const char *host, uint64_t open_timeout)
{
    struct tws_bridge_names names;
    PyObject *bridge = NULL;
    PyObject *bridged = NULL;
    int outer = *fd;
    *fd = -1;
    read_name(getsockname, outer, &names.own);
    read_name(getpeername, outer, &names.peer);
    PyObject *seconds = timeout_object(open_timeout);
    if (seconds == NULL) {
        close(outer);
        return NULL;
    }
    /* Takes the descriptor over, whatever becomes of it. */
    bridged = PyObject_CallFunction(
        state->start_bridge, "OiOzN", context, outer,
        role == TWS_SERVER ? Py_True : Py_False, host, seconds);
    if (bridged == NULL) {
        return NULL;
    }
    bridge = Py_BuildValue("(Oy#)", bridged, (const char *)&names,
                           (Py_ssize_t)sizeof(names));
    if (bridge != NULL) {
        *fd = detach(bridged);
        if (*fd < 0) {
            Py_CLEAR(bridge);
        }
    }
    Py_DECREF(bridged);
    return bridge;
}

const struct tws_bridge_names *
tws_bridge_names(PyObject *bridge)
{
    void *bytes = PyBytes_AS_STRING(PyTuple_GET_ITEM(bridge, 1));
    return bytes;
}

PyObject *
tws_bridge_get(PyObject *bridge, const char *name)
{
    return PyObject_GetAttrString(PyTuple_GET_ITEM(bridge, 0), name);
}

int
tws_bridges_put(PyObject *bridges, int fd, PyObject *bridge)
{
    PyObject *number = PyLong_FromLong(fd);
    int result = number == NULL ? -1 : PyDict_SetItem(bridges, number, bridge);
    Py_XDECREF(number);
    return result;
}

int
tws_bridges_take(PyObject *bridges, int fd, PyObject **bridge)
{
    int result = 0;
    PyObject *number = PyLong_FromLong(fd);
    *bridge = NULL;
    if (number == NULL) {
        return -1;
    }
    PyObject *found = PyDict_GetItemWithError(bridges, number);
    if (found != NULL) {
        *bridge = Py_NewRef(found);
        result = PyDict_DelItem(bridges, number);
    }
    else if (PyErr_Occurred() != NULL) {
        result = -1;
    }
    Py_DECREF(number);
    if (result < 0) {
        Py_CLEAR(*bridge);
    }
    return result;
}
