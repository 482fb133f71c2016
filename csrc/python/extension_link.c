#include "python/extension_link.h"

#include "python/deflate_type.h"
#include "python/frame_type.h"
#include "python/value.h"
#include "protocol/opcode.h"

int
tws_link_init(struct tws_state *state, struct tws_link *link,
              PyObject *extension, uint64_t max_size)
{
    int rsv;
    int opcodes;
    int whole;
    PyObject *claims = PyObject_CallOneArg(state->claims_of, extension);
    if (claims == NULL) {
        return -1;
    }
    int parsed =
        PyArg_ParseTuple(claims, "Uiip", &link->name, &rsv, &opcodes, &whole);
    if (parsed) {
        Py_INCREF(link->name);
        link->extension = Py_NewRef(extension);
        link->claims.rsv = (uint8_t)rsv;
        link->claims.opcodes = (uint16_t)opcodes;
        link->whole = whole != 0;
        link->deflates = PyObject_TypeCheck(extension, state->deflate_type);
        tws_deflate_set_max_size(state, extension, max_size);
    }
    else {
        link->name = NULL;
    }
    Py_DECREF(claims);
    return parsed ? 0 : -1;
}

void
tws_link_fini(struct tws_link *link)
{
    Py_CLEAR(link->extension);
    Py_CLEAR(link->name);
}

static bool
claims_opcode(const struct tws_link *link, uint8_t opcode)
{
    return (link->claims.opcodes & (1U << opcode)) != 0;
}

/* Control frames are nobody's but who has claimed their opcode (RFC 6455
 * §5.5.1: a Close must be read whatever was agreed on); frames of reserved
 * opcodes are no part of messages. */
bool
tws_link_sees(const struct tws_link *link, uint8_t opcode)
{
    return claims_opcode(link, opcode)
           || (!tws_opcode_is_control(opcode)
               && (tws_opcode_is_known(opcode) || !link->whole));
}

/* Calls ------------------------------------------------------------------- */

static const FrameObject *
cast(PyObject *frame)
{
    return (const FrameObject *)frame;
}

/* Adds to the pending exception where it is from: a TimeoutError, say, could
 * be that of the call which has met the extension. */
static void
note_source(const struct tws_link *link, PyObject *method)
{
    PyObject *error = PyErr_GetRaisedException();
    PyObject *notes = PyObject_GetAttrString(error, "__notes__");
    if (notes == NULL) {
        PyErr_Clear();
    }
    PyObject *note = PyUnicode_FromFormat("raised by %U() of the extension %U",
                                          method, link->name);
    /* An exception that is raised again has it already. */
    if (note != NULL
        && (notes == NULL || PySequence_Contains(notes, note) == 0)) {
        Py_XDECREF(PyObject_CallMethod(error, "add_note", "O", note));
    }
    Py_XDECREF(notes);
    Py_XDECREF(note);
    PyErr_SetRaisedException(error); /* instead of what was raised here */
}

/* -1 with an exception. */
static int
check_result(struct tws_state *state, const struct tws_link *link,
             PyObject *method, PyObject *result, bool control)
{
    if (!PyObject_TypeCheck(result, state->frame_type)) {
        PyErr_Format(PyExc_TypeError,
                     "%U() of the extension %U returned %.200s, expected a "
                     "Frame",
                     method, link->name, Py_TYPE(result)->tp_name);
        return -1;
    }
    if (tws_value_check_set(result, cast(result)->opcode) < 0) {
        return -1;
    }
    if (tws_opcode_is_control(cast(result)->opcode) != control) {
        PyErr_Format(PyExc_ValueError,
                     "%U() of the extension %U returned %R for a %s frame, "
                     "expected the same kind",
                     method, link->name, result, control ? "control" : "data");
        return -1;
    }
    return 0;
}

/* Steals `frame`. */
static PyObject *
call(struct tws_state *state, const struct tws_link *link, PyObject *method,
     PyObject *frame)
{
    PyObject *args[2] = {link->extension, frame};
    bool control = tws_opcode_is_control(cast(frame)->opcode);
    PyObject *result = PyObject_VectorcallMethod(
        method, args, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(frame);
    if (result == NULL) {
        note_source(link, method);
    }
    else if (check_result(state, link, method, result, control) < 0) {
        Py_CLEAR(result);
    }
    return result;
}

/* What the other end must take for a broken rule (RFC 6455 §5.2): it knows
 * that nobody has claimed it. `rsv` and `opcode` are those of the frame that
 * the extension was given. */
static int
check_claims(const struct tws_link *link, PyObject *result, uint8_t rsv,
             uint8_t opcode)
{
    unsigned added =
        cast(result)->rsv & ~(unsigned)rsv & ~(unsigned)link->claims.rsv;
    if (added != 0) {
        const char *bit = (added & TWS_RSV1) != 0   ? "rsv1"
                          : (added & TWS_RSV2) != 0 ? "rsv2"
                                                    : "rsv3";
        PyErr_Format(PyExc_ValueError,
                     "onsend() of the extension %U returned %R with %s, which "
                     "the extension has not claimed: what it uses, it says, "
                     "as %s = True in the class",
                     link->name, result, bit, bit);
        return -1;
    }
    uint8_t made = cast(result)->opcode;
    if (made != opcode && !tws_opcode_is_known(made)
        && !claims_opcode(link, made)) {
        PyErr_Format(PyExc_ValueError,
                     "onsend() of the extension %U returned %R with the "
                     "reserved opcode %d, which the extension has not "
                     "claimed: what it uses, it says, as opcodes = (%d,) in "
                     "the class",
                     link->name, result, made, made);
        return -1;
    }
    return 0;
}

PyObject *
tws_link_send(struct tws_state *state, const struct tws_link *link,
              PyObject *frame)
{
    uint8_t rsv = cast(frame)->rsv;
    uint8_t opcode = cast(frame)->opcode;
    PyObject *result = call(state, link, state->str_onsend, frame);
    if (result != NULL && check_claims(link, result, rsv, opcode) < 0) {
        Py_CLEAR(result);
    }
    return result;
}

PyObject *
tws_link_recv(struct tws_state *state, const struct tws_link *link,
              PyObject *frame)
{
    return call(state, link, state->str_onrecv, frame);
}
