#include "python/head_objects.h"

/* Field values may hold bytes that are not ASCII; ISO 8859-1 keeps each of
 * them (RFC 9110 §5.5). */
static PyObject *
latin1(struct tws_span text)
{
    return PyUnicode_DecodeLatin1(text.data, (Py_ssize_t)text.length, NULL);
}

PyObject *
tws_field_list(const struct tws_http_head *head)
{
    PyObject *list = PyList_New((Py_ssize_t)head->field_count);
    if (list == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < head->field_count; i++) {
        PyObject *pair = Py_BuildValue("(NN)", latin1(head->fields[i].name),
                                       latin1(head->fields[i].value));
        if (pair == NULL) {
            Py_DECREF(list);
            return NULL;
        }
        PyList_SET_ITEM(list, (Py_ssize_t)i, pair);
    }
    return list;
}

PyObject *
tws_request_object(struct tws_state *state, const struct tws_http_head *head,
                   PyObject *remote_address)
{
    return PyObject_CallFunction(state->Request, "NNNO", latin1(head->method),
                                 latin1(head->target), tws_field_list(head),
                                 remote_address);
}

PyObject *
tws_response_object(struct tws_state *state, const struct tws_http_head *head,
                    struct tws_span body)
{
    return PyObject_CallFunction(state->Response, "iNy#", (int)head->status,
                                 tws_field_list(head), body.data,
                                 (Py_ssize_t)body.length);
}
