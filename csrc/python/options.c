#include "python/options.h"

#include "python/credentials.h"

#include <limits.h>
#include <math.h>

#define SECOND ((uint64_t)1000000000)

/* A number of seconds as it is, with an int that is too large for a double as
 * an infinity; -1 with an exception. */
static int
seconds_of(PyObject *seconds, const char *name, double *value)
{
    *value = PyFloat_AsDouble(seconds);
    if (*value != -1.0 || PyErr_Occurred() == NULL) {
        return 0;
    }
    if (PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Format(PyExc_TypeError,
                     "%s is %.200s, expected a number of seconds or None",
                     name, Py_TYPE(seconds)->tp_name);
        return -1;
    }
    if (!PyLong_Check(seconds)
        || !PyErr_ExceptionMatches(PyExc_OverflowError)) {
        return -1;
    }
    PyErr_Clear();
    int overflow;
    (void)PyLong_AsLongLongAndOverflow(seconds, &overflow);
    *value = overflow < 0 ? -Py_HUGE_VAL : Py_HUGE_VAL;
    return 0;
}

static int
read_seconds(PyObject *seconds, const char *name, bool zero,
             uint64_t *timeout_ns)
{
    double value;
    if (seconds == Py_None) {
        *timeout_ns = UINT64_MAX;
        return 0;
    }
    if (seconds_of(seconds, name, &value) < 0) {
        return -1;
    }
    if (isnan(value) || value < 0.0 || (value == 0.0 && !zero)) {
        /* Not the object itself: a long int refuses to be shown. */
        PyObject *shown = PyFloat_FromDouble(value);
        if (shown != NULL) {
            PyErr_Format(PyExc_ValueError,
                         "%s is %R, expected seconds %s or None", name, shown,
                         zero ? "of at least 0" : "above 0");
            Py_DECREF(shown);
        }
        return -1;
    }
    if (value > 1e9) {
        *timeout_ns = UINT64_MAX; /* thirty years are no limit */
        return 0;
    }
    /* Rounded up: the smallest positive time must not become 0, which means
     * not to wait at all. */
    *timeout_ns = (uint64_t)ceil(value * (double)SECOND);
    return 0;
}

int
tws_timeout_from_object(PyObject *seconds, const char *name,
                        uint64_t *timeout_ns)
{
    return read_seconds(seconds, name, true, timeout_ns);
}

int
tws_option_seconds(PyObject *given, const char *name, bool zero,
                   uint64_t *timeout_ns)
{
    if (given == NULL) {
        return 0;
    }
    if (PyBool_Check(given)) {
        PyErr_Format(PyExc_TypeError,
                     "%s is bool, expected a number of seconds or None", name);
        return -1;
    }
    return read_seconds(given, name, zero, timeout_ns);
}

/* `got` names the value; `above`: it is more than any size can be. */
static void
refuse_size(PyObject *error, const char *name, const char *got, bool above,
            const struct tws_size_range *range)
{
    const char *or_none = range->none == NULL ? "" : " or None for ";
    const char *none = range->none == NULL ? "" : range->none;
    if (range->most == PY_SSIZE_T_MAX && !above) {
        PyErr_Format(error,
                     "%s is %.200s, expected an int of at least %zu%s%s", name,
                     got, range->least, or_none, none);
    }
    else {
        PyErr_Format(error,
                     "%s is %.200s, expected an int from %zu to %zu%s%s", name,
                     got, range->least, range->most, or_none, none);
    }
}

int
tws_option_size(PyObject *given, const char *name,
                const struct tws_size_range *range, size_t *size)
{
    if (given == NULL) {
        return 0;
    }
    if (given == Py_None && range->none != NULL) {
        *size = SIZE_MAX;
        return 0;
    }
    if (PyBool_Check(given) || !PyIndex_Check(given)) {
        refuse_size(PyExc_TypeError, name, Py_TYPE(given)->tp_name, false,
                    range);
        return -1;
    }
    PyObject *number = PyNumber_Index(given);
    if (number == NULL) {
        return -1;
    }
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(number, &overflow);
    Py_DECREF(number);
    char got[64];
    if (overflow != 0) {
        (void)PyOS_snprintf(got, sizeof(got), "%s %lld",
                            overflow < 0 ? "less than" : "more than",
                            overflow < 0 ? LLONG_MIN : LLONG_MAX);
        refuse_size(PyExc_ValueError, name, got, overflow > 0, range);
        return -1;
    }
    if (value < 0 || (unsigned long long)value < range->least
        || (unsigned long long)value > range->most) {
        (void)PyOS_snprintf(got, sizeof(got), "%lld", value);
        refuse_size(PyExc_ValueError, name, got, value > 0, range);
        return -1;
    }
    *size = (size_t)value;
    return 0;
}

/* An iterable of str as a tuple of exact str without NUL; NULL gives (). */
static PyObject *
str_tuple(PyObject *iterable, const char *name, const char *example)
{
    if (iterable == NULL) {
        return PyTuple_New(0);
    }
    if (PyUnicode_Check(iterable)) {
        PyErr_Format(PyExc_TypeError,
                     "%s is the str %R, expected a list of "
                     "str such as [%s]",
                     name, iterable, example);
        return NULL;
    }
    PyObject *tuple = PySequence_Tuple(iterable);
    if (tuple == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); i++) {
        PyObject *item = PyTuple_GET_ITEM(tuple, i);
        if (!PyUnicode_CheckExact(item)) {
            PyErr_Format(PyExc_TypeError,
                         "%s holds a %.200s, expected only str such as %s",
                         name, Py_TYPE(item)->tp_name, example);
            Py_DECREF(tuple);
            return NULL;
        }
    }
    return tuple;
}

/* Borrowed UTF-8 of a str that lives as long as the options. */
static int
span_of(PyObject *text, struct tws_span *span)
{
    Py_ssize_t length;
    const char *data = PyUnicode_AsUTF8AndSize(text, &length);
    if (data == NULL) {
        return -1;
    }
    *span = (struct tws_span){.data = data, .length = (size_t)length};
    return 0;
}

/* An owned array of spans over a tuple of str; *count too. */
static int
spans_of(PyObject *tuple, struct tws_span **spans, size_t *count)
{
    Py_ssize_t size = PyTuple_GET_SIZE(tuple);
    *spans = PyMem_Calloc((size_t)size + 1, sizeof(**spans));
    if (*spans == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < size; i++) {
        if (span_of(PyTuple_GET_ITEM(tuple, i), &(*spans)[i]) < 0) {
            return -1;
        }
    }
    *count = (size_t)size;
    return 0;
}

static int
set_protocols(struct tws_options *options, PyObject *given)
{
    options->protocols = str_tuple(given, "protocols", "'chat'");
    if (options->protocols == NULL
        || spans_of(options->protocols, &options->protocol_spans,
                    &options->policy.protocol_count)
               < 0) {
        return -1;
    }
    options->policy.protocols = options->protocol_spans;
    for (size_t i = 0; i < options->policy.protocol_count; i++) {
        if (!tws_http_is_token(options->protocol_spans[i])) {
            PyErr_Format(PyExc_ValueError,
                         "protocols holds %R, expected a token (letters, "
                         "digits and !#$%%&'*+-.^_`|~, RFC 6455 4.1)",
                         PyTuple_GET_ITEM(options->protocols, (Py_ssize_t)i));
            return -1;
        }
    }
    return 0;
}

static int
set_locations(struct tws_options *options, PyObject *location,
              PyObject *locations)
{
    struct tws_span span;
    if (location == NULL) {
        options->location = PyUnicode_FromString("/");
    }
    else if (!PyUnicode_Check(location)) {
        PyErr_Format(PyExc_TypeError, "location is %.200s, expected str",
                     Py_TYPE(location)->tp_name);
    }
    else {
        options->location = PyUnicode_FromObject(location);
    }
    if (options->location == NULL || span_of(options->location, &span) < 0) {
        return -1;
    }
    if (!tws_http_is_target(span) || span.data[0] != '/') {
        PyErr_Format(PyExc_ValueError,
                     "location is %R, expected a path that begins with '/', "
                     "with a query or without, percent-encoded where it is "
                     "not printable ASCII",
                     options->location);
        return -1;
    }
    options->locations = str_tuple(locations, "locations", "'/chat'");
    if (options->locations == NULL
        || spans_of(options->locations, &options->location_spans,
                    &options->policy.location_count)
               < 0) {
        return -1;
    }
    options->policy.locations = options->location_spans;
    return 0;
}

static int
set_trusted_origins(struct tws_options *options, PyObject *given)
{
    struct tws_origins *origins = &options->policy.origins;
    if (given != NULL && PyUnicode_Check(given)) {
        if (PyUnicode_CompareWithASCIIString(given, "same-origin") != 0) {
            PyErr_Format(PyExc_ValueError,
                         "trusted_origins is the str %R, expected "
                         "'same-origin' or a list of origins such as "
                         "['https://example.com']",
                         given);
            return -1;
        }
        origins->policy = TWS_ORIGIN_SAME;
        options->trusted_origins = PyUnicode_FromObject(given);
        return options->trusted_origins == NULL ? -1 : 0;
    }
    options->trusted_origins =
        str_tuple(given, "trusted_origins", "'https://example.com'");
    if (options->trusted_origins == NULL
        || spans_of(options->trusted_origins, &options->origin_spans,
                    &origins->count)
               < 0) {
        return -1;
    }
    origins->list = options->origin_spans;
    origins->policy = origins->count > 0 ? TWS_ORIGIN_LIST : TWS_ORIGIN_ANY;
    for (size_t i = 0; i < origins->count; i++) {
        if (!tws_origin_valid(origins->list[i])) {
            PyErr_Format(
                PyExc_ValueError,
                "trusted_origins holds %R, expected scheme://host[:port] "
                "without a path, or 'null'",
                PyTuple_GET_ITEM(options->trusted_origins, (Py_ssize_t)i));
            return -1;
        }
    }
    return 0;
}

static int
set_origin(struct tws_options *options, PyObject *origin)
{
    struct tws_span span;
    if (origin == NULL || origin == Py_None) {
        options->origin = Py_NewRef(Py_None);
        return 0;
    }
    if (!PyUnicode_Check(origin)) {
        PyErr_Format(PyExc_TypeError, "origin is %.200s, expected str or None",
                     Py_TYPE(origin)->tp_name);
        return -1;
    }
    options->origin = PyUnicode_FromObject(origin);
    if (options->origin == NULL || span_of(options->origin, &span) < 0) {
        return -1;
    }
    if (!tws_origin_valid(span)) {
        PyErr_Format(PyExc_ValueError,
                     "origin is %R, expected scheme://host[:port] without a "
                     "path, or 'null'",
                     origin);
        return -1;
    }
    return 0;
}

/* A str as latin-1, the bytes that a field has (RFC 9110 section 5.5); kept by
 * `kept` at that place, and borrowed as a span. */
static int
latin1_of(PyObject *text, PyObject *kept, Py_ssize_t place,
          struct tws_span *span)
{
    PyObject *bytes = PyUnicode_AsLatin1String(text);
    if (bytes == NULL) {
        return -1;
    }
    PyTuple_SET_ITEM(kept, place, bytes);
    *span = (struct tws_span){
        .data = PyBytes_AS_STRING(bytes),
        .length = (size_t)PyBytes_GET_SIZE(bytes),
    };
    return 0;
}

/* Pairs of str, checked. */
static int
keep_fields(struct tws_options *options, PyObject *pairs)
{
    Py_ssize_t size = PyTuple_GET_SIZE(pairs);
    options->fields = PyTuple_New(2 * size);
    options->field_spans =
        PyMem_Calloc((size_t)size + 1, sizeof(*options->field_spans));
    if (options->fields == NULL) {
        return -1;
    }
    if (options->field_spans == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < size; i++) {
        PyObject *name;
        PyObject *value;
        struct tws_http_field *field = &options->field_spans[i];
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(pairs, i), "UU", &name, &value)
            || latin1_of(name, options->fields, 2 * i, &field->name) < 0
            || latin1_of(value, options->fields, 2 * i + 1, &field->value)
                   < 0) {
            return -1;
        }
    }
    options->field_count = (size_t)size;
    return 0;
}

/* `headers` through twspy.http.Headers, which checks names and values. */
static int
set_fields(struct tws_state *state, struct tws_options *options,
           PyObject *headers)
{
    if (headers == NULL || headers == Py_None) {
        options->fields = PyTuple_New(0);
        return options->fields == NULL ? -1 : 0;
    }
    int result = -1;
    PyObject *items = NULL;
    PyObject *pairs = NULL;
    PyObject *checked = PyObject_CallOneArg(state->Headers, headers);
    if (checked == NULL) {
        return -1;
    }
    items = PyObject_CallMethod(checked, "items", NULL);
    pairs = items == NULL ? NULL : PySequence_Tuple(items);
    if (pairs != NULL) {
        result = keep_fields(options, pairs);
    }
    Py_DECREF(checked);
    Py_XDECREF(items);
    Py_XDECREF(pairs);
    return result;
}

static int
set_limits(struct tws_options *options, const struct tws_option_args *args)
{
    static const struct tws_size_range message_size = {.most = PY_SSIZE_T_MAX,
                                                       .none = "no limit"};
    static const struct tws_size_range head_size = {.least = 1,
                                                    .most = PY_SSIZE_T_MAX};
    static const struct tws_size_range header_lines = {
        .least = 1, .most = TWS_HTTP_FIELDS_MAX};
    options->message = TWS_MESSAGE_LIMITS_DEFAULT;
    options->http = TWS_HTTP_LIMITS_DEFAULT;
    options->open_timeout = 10 * SECOND;
    options->close_timeout = 2 * SECOND;
    size_t size = (size_t)options->message.size;
    if (tws_option_size(args->max_size, "max_size", &message_size, &size) < 0
        || tws_option_size(args->max_head_size, "max_head_size", &head_size,
                           &options->http.head_bytes)
               < 0
        || tws_option_size(args->max_header_lines, "max_header_lines",
                           &header_lines, &options->http.field_count)
               < 0
        || tws_option_seconds(args->open_timeout, "open_timeout", true,
                              &options->open_timeout)
               < 0
        || tws_option_seconds(args->close_timeout, "close_timeout", true,
                              &options->close_timeout)
               < 0) {
        return -1;
    }
    options->message.size = size == SIZE_MAX ? UINT64_MAX : size;
    return 0;
}

struct tws_options *
tws_options_new(struct tws_state *state, const struct tws_option_args *args)
{
    struct tws_options *options = PyMem_Calloc(1, sizeof(*options));
    if (options == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    atomic_init(&options->references, 1);
    if (set_protocols(options, args->protocols) < 0
        || set_locations(options, args->location, args->locations) < 0
        || set_trusted_origins(options, args->trusted_origins) < 0
        || set_origin(options, args->origin) < 0
        || set_fields(state, options, args->headers) < 0
        || tws_credentials_read(state, args->auth, &options->user,
                                &options->password)
               < 0
        || set_limits(options, args) < 0) {
        tws_options_release(options);
        return NULL;
    }
    return options;
}

struct tws_options *
tws_options_retain(struct tws_options *options)
{
    atomic_fetch_add_explicit(&options->references, 1, memory_order_relaxed);
    return options;
}

void
tws_options_release(struct tws_options *options)
{
    if (options == NULL
        || atomic_fetch_sub_explicit(&options->references, 1,
                                     memory_order_acq_rel)
               != 1) {
        return;
    }
    Py_XDECREF(options->protocols);
    Py_XDECREF(options->origin);
    Py_XDECREF(options->location);
    Py_XDECREF(options->trusted_origins);
    Py_XDECREF(options->locations);
    Py_XDECREF(options->fields);
    Py_XDECREF(options->user);
    Py_XDECREF(options->password);
    PyMem_Free(options->protocol_spans);
    PyMem_Free(options->location_spans);
    PyMem_Free(options->origin_spans);
    PyMem_Free(options->field_spans);
    PyMem_Free(options);
}
