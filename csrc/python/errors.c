#include "python/errors.h"

#include "python/message_type.h"

#include <errno.h>

/* Raises type(text, *more) where `more` is stolen and may be NULL with an
 * exception set. */
static PyObject *
raise_with(PyObject *type, const char *text, PyObject *more)
{
    PyObject *exception = NULL;
    if (more == NULL) {
        return NULL;
    }
    exception = PyObject_CallFunction(type, "sO", text, more);
    if (exception != NULL) {
        PyErr_SetObject(type, exception);
        Py_DECREF(exception);
    }
    Py_DECREF(more);
    return NULL;
}

PyObject *
tws_raise(struct tws_state *state, const struct tws_error *err)
{
    switch (err->status) {
    case TWS_PROTOCOL:
        return raise_with(state->ProtocolError, err->reason,
                          PyLong_FromLong(err->close_code));
    case TWS_REFUSED:
        return raise_with(state->HandshakeError, err->reason,
                          PyLong_FromLong(err->http_status));
    case TWS_NOMEM:
        return PyErr_NoMemory();
    case TWS_OS:
        errno = err->sys_errno;
        return PyErr_SetFromErrno(PyExc_OSError);
    case TWS_TLS:
        PyErr_SetString(state->SSLError, err->reason);
        return NULL;
    case TWS_OK:
    case TWS_AGAIN:
    case TWS_EOF:
        break;
    }
    PyErr_Format(PyExc_SystemError, "core status %d is not an error",
                 (int)err->status);
    return NULL;
}

PyObject *
tws_raise_closed(struct tws_state *state, uint16_t code,
                 struct tws_span reason)
{
    PyObject *text = PyUnicode_DecodeUTF8(
        reason.data, (Py_ssize_t)reason.length, "replace");
    if (text == NULL) {
        return NULL;
    }
    PyObject *exception =
        PyObject_CallFunction(state->SocketClosed, "iO", (int)code, text);
    if (exception != NULL) {
        PyErr_SetObject(state->SocketClosed, exception);
        Py_DECREF(exception);
    }
    Py_DECREF(text);
    return NULL;
}

PyObject *
tws_raise_closed_message(struct tws_state *state, PyObject *message)
{
    /* By the names that SocketClosed takes as keywords. */
    static const char *const names[][2] = {
        {"code", "code"},          {"reason", "reason"},
        {"detail", "explanation"}, {"ended_by", "ended_by"},
        {"sent", "sent"},          {"received", "received"},
        {"errno", "errno"},        {"unsent", "unsent"},
        {"ping_age", "ping_age"},
    };
    PyObject *exception = NULL;
    PyObject *args = PyTuple_New(0);
    PyObject *kwargs = PyDict_New();
    if (args == NULL || kwargs == NULL) {
        goto done;
    }
    for (size_t i = 0; i < TWS_ARRAY_SIZE(names); i++) {
        PyObject *value = PyObject_GetAttrString(message, names[i][1]);
        int result = value == NULL
                         ? -1
                         : PyDict_SetItemString(kwargs, names[i][0], value);
        Py_XDECREF(value);
        if (result < 0) {
            goto done;
        }
    }
    exception = PyObject_Call(state->SocketClosed, args, kwargs);
    if (exception != NULL) {
        PyErr_SetRaisedException(exception);
    }
done:
    Py_XDECREF(args);
    Py_XDECREF(kwargs);
    return NULL;
}

PyObject *
tws_raise_closed_ending(struct tws_state *state,
                        const struct tws_ending *ending)
{
    PyObject *message = tws_close_message_of_ending(state, ending);
    if (message != NULL) {
        (void)tws_raise_closed_message(state, message);
        Py_DECREF(message);
    }
    return NULL;
}
