/* What a CloseMessage tells of how a connection ended. */
#include "python/close_message_type.h"

static int
keep_ending(CloseMessageObject *self, const struct tws_ending *ending)
{
    self->ending = PyMem_Malloc(sizeof(*ending));
    if (self->ending == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    *self->ending = *ending;
    return 0;
}

PyObject *
tws_close_message_of_ending(struct tws_state *state,
                            const struct tws_ending *ending)
{
    struct tws_span reason = {.data = ending->reason,
                              .length = ending->reason_length};
    PyObject *message = tws_close_message_make(state, ending->code, reason);
    if (message != NULL
        && keep_ending((CloseMessageObject *)message, ending) < 0) {
        Py_CLEAR(message);
    }
    return message;
}

PyObject *
tws_close_message_facts(const struct tws_ending *ending)
{
    return Py_BuildValue("(BHyHyiKK)", ending->by, ending->sent_code,
                         ending->sent_reason, ending->received_code,
                         ending->received_reason, ending->sys_errno,
                         (unsigned long long)ending->unsent,
                         (unsigned long long)ending->ping_age);
}

int
tws_close_message_restore(CloseMessageObject *self, PyObject *facts)
{
    struct tws_ending ending;
    struct tws_span reason;
    const char *sent, *received;
    Py_ssize_t sent_length, received_length, reason_length;
    unsigned short sent_code, received_code;
    unsigned long long unsent, ping_age;

    tws_ending_clear(&ending);
    if (!PyArg_ParseTuple(facts, "bHy#Hy#iKK:__setstate__", &ending.by,
                          &sent_code, &sent, &sent_length, &received_code,
                          &received, &received_length, &ending.sys_errno,
                          &unsent, &ping_age)) {
        return -1;
    }
    if (self->ending != NULL || self->reason == NULL
        || ending.by > TWS_ENDED_BY_KEEPALIVE) {
        PyErr_SetString(PyExc_ValueError,
                        "__setstate__() is for pickle and copy");
        return -1;
    }
    reason.data = PyUnicode_AsUTF8AndSize(self->reason, &reason_length);
    if (reason.data == NULL) {
        return -1;
    }
    reason.length = (size_t)reason_length;
    tws_ending_set_reason(&ending, self->code, reason);
    reason = (struct tws_span){.data = sent, .length = (size_t)sent_length};
    tws_ending_set_sent(&ending, sent_code, reason);
    reason =
        (struct tws_span){.data = received, .length = (size_t)received_length};
    tws_ending_set_received(&ending, received_code, reason);
    ending.unsent = unsent;
    ending.ping_age = ping_age;
    return keep_ending(self, &ending);
}

/* Attributes ------------------------------------------------------------- */

static const struct tws_ending *
ending_of(PyObject *op)
{
    return ((const CloseMessageObject *)op)->ending;
}

static PyObject *
get_ended_by(PyObject *op, void *Py_UNUSED(closure))
{
    const struct tws_ending *ending = ending_of(op);
    if (ending == NULL) {
        return Py_NewRef(Py_None);
    }
    return PyUnicode_FromString(
        tws_ended_by_name((enum tws_ended_by)ending->by));
}

static PyObject *
close_frame(uint16_t code, const char *reason)
{
    if (code == 0) {
        return Py_NewRef(Py_None);
    }
    return Py_BuildValue(
        "(iN)", (int)code,
        PyUnicode_DecodeUTF8(reason, (Py_ssize_t)strlen(reason), "replace"));
}

static PyObject *
get_sent(PyObject *op, void *Py_UNUSED(closure))
{
    const struct tws_ending *ending = ending_of(op);
    return ending == NULL
               ? Py_NewRef(Py_None)
               : close_frame(ending->sent_code, ending->sent_reason);
}

static PyObject *
get_received(PyObject *op, void *Py_UNUSED(closure))
{
    const struct tws_ending *ending = ending_of(op);
    return ending == NULL
               ? Py_NewRef(Py_None)
               : close_frame(ending->received_code, ending->received_reason);
}

static PyObject *
get_errno(PyObject *op, void *Py_UNUSED(closure))
{
    const struct tws_ending *ending = ending_of(op);
    return ending == NULL || ending->sys_errno == 0
               ? Py_NewRef(Py_None)
               : PyLong_FromLong(ending->sys_errno);
}

static PyObject *
get_unsent(PyObject *op, void *Py_UNUSED(closure))
{
    const struct tws_ending *ending = ending_of(op);
    return PyLong_FromUnsignedLongLong(ending == NULL ? 0 : ending->unsent);
}

static PyObject *
get_ping_age(PyObject *op, void *Py_UNUSED(closure))
{
    const struct tws_ending *ending = ending_of(op);
    return ending == NULL || ending->ping_age == UINT64_MAX
               ? Py_NewRef(Py_None)
               : PyFloat_FromDouble((double)ending->ping_age / 1e9);
}

static PyObject *
get_explanation(PyObject *op, void *Py_UNUSED(closure))
{
    const struct tws_ending *ending = ending_of(op);
    char line[TWS_ENDING_LINE_MAX] = "";
    if (ending != NULL) {
        tws_ending_describe(ending, line);
    }
    return PyUnicode_DecodeUTF8(line, (Py_ssize_t)strlen(line), "replace");
}

PyGetSetDef tws_close_message_getset[] = {
    {"ended_by", get_ended_by, NULL,
     PyDoc_STR("Who ended the connection: 'peer', 'us', 'network', 'limit' "
               "or 'keepalive'; None in a message made by a program."),
     NULL},
    {"sent", get_sent, NULL,
     PyDoc_STR("(code, reason) of the Close frame that this end sent; None "
               "where it sent none."),
     NULL},
    {"received", get_received, NULL,
     PyDoc_STR("(code, reason) of the peer's Close frame; None where none "
               "came."),
     NULL},
    {"errno", get_errno, NULL,
     PyDoc_STR("The system's error that ended the connection, as in the "
               "module errno; None without one."),
     NULL},
    {"unsent", get_unsent, NULL,
     PyDoc_STR("Bytes that were to be sent and that the system did not "
               "take."),
     NULL},
    {"ping_age", get_ping_age, NULL,
     PyDoc_STR("Seconds that the last ping had not been answered for; None "
               "where it was, and where there was none."),
     NULL},
    {"explanation", get_explanation, NULL,
     PyDoc_STR("All of this in one line for a person; '' in a message made "
               "by a program."),
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
