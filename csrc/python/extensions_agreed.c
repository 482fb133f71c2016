#include "python/extensions_agreed.h"

#include "python/deflate_type.h"
#include "python/errors.h"
#include "protocol/http_fields.h"

/* That a server looks at: a head has room for thousands. Their grammar has
 * been judged by then. */
enum { OFFERS_MAX = 64 };

/* Header fields ----------------------------------------------------------- */

static PyObject *
value_of(const struct tws_extension_param *param)
{
    if (!param->has_value) {
        return Py_NewRef(Py_None);
    }
    if (!param->quoted_pairs) {
        return PyUnicode_DecodeLatin1(param->value.data,
                                      (Py_ssize_t)param->value.length, NULL);
    }
    char *room = PyMem_Malloc(param->value.length);
    if (room == NULL) {
        return PyErr_NoMemory();
    }
    size_t length = tws_extension_unquote(param, room);
    PyObject *text = PyUnicode_DecodeLatin1(room, (Py_ssize_t)length, NULL);
    PyMem_Free(room);
    return text;
}

static int
append(PyObject *list, PyObject *stolen)
{
    int result = stolen == NULL ? -1 : PyList_Append(list, stolen);
    Py_XDECREF(stolen);
    return result;
}

/* Grammar that is broken is as the walker says. -1 with an exception; *status
 * is TWS_OK then, unless it is the walker's. */
static int
read_params(struct tws_extension_walker *walker, PyObject *list,
            enum tws_status *status, struct tws_error *err)
{
    for (;;) {
        struct tws_extension_param param;
        *status = tws_extension_param_next(walker, &param, err);
        if (*status != TWS_OK) {
            return *status == TWS_EOF ? 0 : -1;
        }
        PyObject *value = value_of(&param);
        if (value == NULL
            || append(list,
                      Py_BuildValue("(s#N)", param.name.data,
                                    (Py_ssize_t)param.name.length, value))
                   < 0) {
            return -1;
        }
    }
}

/* Appends (name, [(param, value), ...]) for each element, up to `most` in the
 * list. */
static int
read_elements(struct tws_state *state, struct tws_span value,
              uint16_t http_status, Py_ssize_t most, PyObject *list)
{
    struct tws_extension_walker walker = {.rest = value};
    struct tws_error err;
    while (PyList_GET_SIZE(list) < most) {
        struct tws_span name;
        enum tws_status status = tws_extension_next(&walker, &name, &err);
        if (status == TWS_EOF) {
            return 0;
        }
        PyObject *params = NULL;
        if (status == TWS_OK) {
            params = PyList_New(0);
            if (params == NULL) {
                return -1;
            }
            if (read_params(&walker, params, &status, &err) == 0) {
                if (append(list,
                           Py_BuildValue("(s#N)", name.data,
                                         (Py_ssize_t)name.length, params))
                    < 0) {
                    return -1;
                }
                continue;
            }
            Py_DECREF(params);
        }
        if (status != TWS_OK) {
            err.http_status = http_status;
            (void)tws_raise(state, &err);
        }
        return -1;
    }
    return 0;
}

const char tws_parse_extensions_doc[] = PyDoc_STR(
    "_parse_extensions($module, value, /)\n--\n\n"
    "The elements of a Sec-WebSocket-Extensions field: a list of (name,\n"
    "[(parameter, value or None), ...]). Raises HandshakeError where the\n"
    "grammar is broken (RFC 6455 section 9.1).");

PyObject *
tws_parse_extensions(PyObject *module, PyObject *text)
{
    Py_ssize_t length;
    if (!PyUnicode_Check(text)) {
        return PyErr_Format(PyExc_TypeError, "value is %.200s, expected str",
                            Py_TYPE(text)->tp_name);
    }
    struct tws_span value = {.data = PyUnicode_AsUTF8AndSize(text, &length)};
    if (value.data == NULL) {
        return NULL;
    }
    value.length = (size_t)length;
    PyObject *list = PyList_New(0);
    if (list != NULL
        && read_elements(tws_state_of_module(module), value, 400,
                         PY_SSIZE_T_MAX, list)
               < 0) {
        Py_CLEAR(list);
    }
    return list;
}

/* Options ----------------------------------------------------------------- */

PyObject *
tws_extensions_read(struct tws_state *state, PyObject *extensions,
                    PyObject *compression)
{
    bool any = extensions != NULL
               && !(PyTuple_CheckExact(extensions)
                    && PyTuple_GET_SIZE(extensions) == 0);
    if (!any && (compression == NULL || compression == Py_None)) {
        return PyTuple_New(0);
    }
    PyObject *none = PyTuple_New(0);
    if (none == NULL) {
        return NULL;
    }
    PyObject *templates = PyObject_CallFunctionObjArgs(
        state->read_templates, any ? extensions : none,
        compression == NULL ? Py_None : compression, NULL);
    Py_DECREF(none);
    if (templates != NULL && !PyTuple_CheckExact(templates)) {
        PyErr_SetString(PyExc_SystemError, "templates are no tuple");
        Py_CLEAR(templates);
    }
    return templates;
}

static bool
is_empty(PyObject *templates)
{
    return templates == NULL || PyTuple_GET_SIZE(templates) == 0;
}

/* The client ---------------------------------------------------------------
 */

PyObject *
tws_extensions_offer(struct tws_state *state, PyObject *templates,
                     struct tws_span *value)
{
    const char *text;
    Py_ssize_t length;
    PyObject *instances;
    *value = TWS_SPAN("");
    if (is_empty(templates)) {
        return PyTuple_New(0);
    }
    PyObject *offer = PyObject_CallOneArg(state->make_offer, templates);
    if (offer == NULL
        || !PyArg_ParseTuple(offer, "s#O!", &text, &length, &PyTuple_Type,
                             &instances)) {
        Py_XDECREF(offer);
        return NULL;
    }
    *value = (struct tws_span){.data = text, .length = (size_t)length};
    return offer;
}

PyObject *
tws_extensions_judge_answer(struct tws_state *state, PyObject *offer,
                            struct tws_span value, PyObject *response)
{
    if (value.length == 0 || is_empty(offer)) {
        return PyTuple_New(0);
    }
    PyObject *elements = PyList_New(0);
    PyObject *agreed = NULL;
    if (elements != NULL
        && read_elements(state, value, 101, PY_SSIZE_T_MAX, elements) == 0) {
        agreed = PyObject_CallFunctionObjArgs(state->judge_answer,
                                              PyTuple_GET_ITEM(offer, 1),
                                              elements, response, NULL);
    }
    Py_XDECREF(elements);
    return agreed;
}

/* The server ---------------------------------------------------------------
 */

PyObject *
tws_extensions_judge_offers(struct tws_state *state, PyObject *templates,
                            const struct tws_http_head *head)
{
    const struct tws_span name = TWS_SPAN("Sec-WebSocket-Extensions");
    PyObject *judged = NULL;
    PyObject *elements = PyList_New(0);
    if (elements == NULL) {
        return NULL;
    }
    /* RFC 6455 §11.3.2: several fields are one list. */
    for (size_t i = 0; !is_empty(templates) && i < head->field_count; i++) {
        if (tws_span_equal_nocase(head->fields[i].name, name)
            && read_elements(state, head->fields[i].value, 400, OFFERS_MAX,
                             elements)
                   < 0) {
            goto done;
        }
    }
    if (PyList_GET_SIZE(elements) == 0) {
        judged = Py_BuildValue("(()s)", "");
    }
    else {
        judged = PyObject_CallFunctionObjArgs(state->judge_offers, templates,
                                              elements, NULL);
    }
done:
    Py_DECREF(elements);
    return judged;
}

int
tws_extensions_unpack(PyObject *judged, PyObject **agreed,
                      struct tws_span *value)
{
    Py_ssize_t length;
    if (!PyArg_ParseTuple(judged, "O!s#", &PyTuple_Type, agreed, &value->data,
                          &length)) {
        return -1;
    }
    value->length = (size_t)length;
    return 0;
}

/* Frames -------------------------------------------------------------------
 */

int
tws_extensions_settle(struct tws_state *state, PyObject *agreed,
                      enum tws_role role, bool compresses,
                      const struct tws_message_limits *limits,
                      struct tws_agreed *result, struct tws_chain **chain)
{
    *result = (struct tws_agreed){.extensions = TWS_SPAN("")};
    *chain = NULL;
    if (agreed == NULL || PyTuple_GET_SIZE(agreed) == 0) {
        return 0;
    }
    if (compresses && PyTuple_GET_SIZE(agreed) == 1) {
        result->compression =
            tws_deflate_agreed(state, PyTuple_GET_ITEM(agreed, 0), role);
        if (result->compression != NULL) {
            result->rsv = TWS_RSV1;
            return 0;
        }
        if (PyErr_Occurred() != NULL) {
            return -1;
        }
    }
    *chain = tws_chain_new(state, agreed, limits);
    if (*chain == NULL) {
        return -1;
    }
    struct tws_frame_claims claims = tws_chain_claims(*chain);
    result->rsv = claims.rsv;
    result->opcodes = claims.opcodes;
    result->raw_frames = true;
    return 0;
}
