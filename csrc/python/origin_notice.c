#include "python/origin_notice.h"

static struct tws_span
value_of(const struct tws_http_head *head, struct tws_span name)
{
    const struct tws_http_field *field = tws_http_find(head, name, NULL);
    return field == NULL ? TWS_SPAN("") : field->value;
}

int
tws_notice_foreign_origin(struct tws_state *state,
                          const struct tws_options *options,
                          const struct tws_http_head *head, bool *seen)
{
    static const struct tws_origins same = {.policy = TWS_ORIGIN_SAME};
    if (*seen || options->policy.origins.policy != TWS_ORIGIN_ANY) {
        return 0;
    }
    struct tws_span origin = value_of(head, TWS_SPAN("Origin"));
    struct tws_span host = value_of(head, TWS_SPAN("Host"));
    if (origin.length == 0 || tws_origin_allowed(&same, origin, host, false)) {
        return 0;
    }
    *seen = true;
    PyObject *result = PyObject_CallFunction(
        state->log_foreign_origin, "NN",
        PyUnicode_DecodeLatin1(origin.data, (Py_ssize_t)origin.length, NULL),
        PyUnicode_DecodeLatin1(host.data, (Py_ssize_t)host.length, NULL));
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}
