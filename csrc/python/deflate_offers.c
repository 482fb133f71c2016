/* What the extensions that compress offer and answer: between dicts of
 * parameters, as the negotiation has them, and the core. */
#include "python/deflate_type.h"

/* Parameters to and from Python ------------------------------------------ */

static PyObject *
dict_of(const struct tws_extension_param *list, size_t count)
{
    PyObject *dict = PyDict_New();
    for (size_t i = 0; dict != NULL && i < count; i++) {
        const struct tws_extension_param *param = &list[i];
        PyObject *name = PyUnicode_DecodeASCII(
            param->name.data, (Py_ssize_t)param->name.length, NULL);
        PyObject *value =
            param->has_value ? PyUnicode_DecodeASCII(
                param->value.data, (Py_ssize_t)param->value.length, NULL)
                             : Py_NewRef(Py_None);
        if (name == NULL || value == NULL
            || PyDict_SetItem(dict, name, value) < 0) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(name);
        Py_XDECREF(value);
    }
    return dict;
}

/* Borrowed from `object`, a str. */
static int
span_of(PyObject *object, const char *what, struct tws_span *span)
{
    Py_ssize_t length;
    if (!PyUnicode_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s is %.200s, expected str", what,
                     Py_TYPE(object)->tp_name);
        return -1;
    }
    span->data = PyUnicode_AsUTF8AndSize(object, &length);
    if (span->data == NULL) {
        return -1;
    }
    span->length = (size_t)length;
    return 0;
}

/* What was read of a dict. */
struct params {
    struct tws_permessage_deflate message;
    struct tws_deflate_frame frame;
};

/* Reads what came `from` an end. 0; 1 with *err where it must not be so; -1
 * with an exception. */
static int
read_params(const DeflateObject *self, PyObject *dict, enum tws_role from,
            struct params *params, struct tws_error *err)
{
    PyObject *name;
    PyObject *value;
    Py_ssize_t at = 0;
    *params = (struct params){.frame = {0}};
    if (!PyDict_Check(dict)) {
        PyErr_Format(PyExc_TypeError, "params is %.200s, expected a dict",
                     Py_TYPE(dict)->tp_name);
        return -1;
    }
    while (PyDict_Next(dict, &at, &name, &value) != 0) {
        struct tws_extension_param param = {.has_value = value != Py_None};
        if (span_of(name, "the name of a parameter", &param.name) < 0
            || (param.has_value
                && span_of(value, "the value of a parameter", &param.value)
                       < 0)) {
            return -1;
        }
        enum tws_status status =
            self->per_frame
                ? tws_deflate_frame_read(&params->frame, &param, err)
                : tws_permessage_deflate_read(&params->message, &param, from,
                                              err);
        if (status != TWS_OK) {
            return 1;
        }
    }
    return 0;
}

/* Settings --------------------------------------------------------------- */

/* Windows cost memory at either end of each connection, so that of this end
 * is small unless the program names a size, and where it does not a server
 * has its clients do the same. */
static struct tws_permessage_deflate_settings
message_settings(const DeflateObject *self, enum tws_role role)
{
    const struct tws_permessage_deflate *asked = &self->asked;
    uint8_t own = role == TWS_SERVER ? asked->server_max_window_bits
                                     : asked->client_max_window_bits;
    uint8_t client = asked->client_max_window_bits;
    struct tws_deflate_settings out = self->out;
    if (own >= TWS_WINDOW_BITS_MIN && own <= TWS_WINDOW_BITS_MAX) {
        out.window_bits = own;
    }
    if (role == TWS_SERVER && client == TWS_WINDOW_BITS_OPEN) {
        client = TWS_DEFLATE_WINDOW_BITS;
    }
    return (struct tws_permessage_deflate_settings){
        .out = out,
        .threshold = self->threshold,
        .server_no_context_takeover =
            self->shared || asked->server_no_context_takeover,
        .server_max_window_bits = asked->server_max_window_bits,
        .client_no_context_takeover =
            self->shared || asked->client_no_context_takeover,
        .client_max_window_bits = client,
    };
}

static struct tws_deflate_frame_settings
frame_settings(const DeflateObject *self)
{
    return (struct tws_deflate_frame_settings){
        .out = self->out,
        .threshold = self->threshold,
        .out_takeover = !self->asked_of_frames.no_context_takeover,
        .asked = self->asked_of_frames,
    };
}

/* Methods ---------------------------------------------------------------- */

const char tws_deflate_offer_doc[] =
    PyDoc_STR("offer($self, /)\n"
              "--\n"
              "\n"
              "What a client offers: a dict of parameters (RFC 7692 section "
              "7.1).");

PyObject *
tws_deflate_offer(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    const DeflateObject *self = (const DeflateObject *)op;
    if (self->per_frame) {
        struct tws_extension_param list[TWS_DEFLATE_FRAME_PARAMS];
        return dict_of(list,
                       tws_deflate_frame_list(&self->asked_of_frames, list));
    }
    struct tws_extension_param list[TWS_PERMESSAGE_DEFLATE_PARAMS];
    struct tws_permessage_deflate_settings settings =
        message_settings(self, TWS_CLIENT);
    struct tws_permessage_deflate offer =
        tws_permessage_deflate_offer(&settings);
    return dict_of(list, tws_permessage_deflate_list(&offer, list));
}

/* What is in use does not change. */
static int
check_not_agreed(const DeflateObject *self, const char *what)
{
    if (!self->agreed) {
        return 0;
    }
    PyErr_Format(PyExc_RuntimeError,
                 "%s on a %.200s that a connection uses: copy it for another",
                 what, Py_TYPE((PyObject *)(uintptr_t)self)->tp_name);
    return -1;
}

const char tws_deflate_negotiate_doc[] = PyDoc_STR(
    "negotiate($self, params, /)\n"
    "--\n"
    "\n"
    "On a server: the parameters to answer an offer with, or None to decline\n"
    "it: an unknown parameter, or a value that must not be (RFC 7692 section\n"
    "7.1). RuntimeError where it has agreed already.");

PyObject *
tws_deflate_negotiate(PyObject *op, PyObject *dict)
{
    DeflateObject *self = (DeflateObject *)op;
    struct params offer;
    struct tws_compression_terms terms;
    struct tws_error err;
    if (check_not_agreed(self, "negotiate()") < 0) {
        return NULL;
    }
    int result = read_params(self, dict, TWS_CLIENT, &offer, &err);
    if (result != 0) {
        return result < 0 ? NULL : Py_NewRef(Py_None);
    }
    if (self->per_frame) {
        struct tws_extension_param list[TWS_DEFLATE_FRAME_PARAMS];
        struct tws_deflate_frame_settings settings = frame_settings(self);
        terms = tws_deflate_frame_agree(&settings, &offer.frame);
        if (tws_deflate_agree(self, TWS_SERVER, &terms) < 0) {
            return NULL;
        }
        return dict_of(list, tws_deflate_frame_list(&settings.asked, list));
    }
    struct tws_extension_param list[TWS_PERMESSAGE_DEFLATE_PARAMS];
    struct tws_permessage_deflate_settings settings =
        message_settings(self, TWS_SERVER);
    struct tws_permessage_deflate answer;
    if (tws_permessage_deflate_negotiate(&settings, &offer.message, &answer,
                                         &terms, &err)
        != TWS_OK) {
        return Py_NewRef(Py_None);
    }
    if (tws_deflate_agree(self, TWS_SERVER, &terms) < 0) {
        return NULL;
    }
    return dict_of(list, tws_permessage_deflate_list(&answer, list));
}

const char tws_deflate_accept_doc[] = PyDoc_STR(
    "accept($self, params, /)\n"
    "--\n"
    "\n"
    "On a client: judges the parameters of the server's answer. ValueError\n"
    "where they do not go with what was offered (RFC 7692 section 7.1);\n"
    "RuntimeError where it has agreed already.");

PyObject *
tws_deflate_accept(PyObject *op, PyObject *dict)
{
    DeflateObject *self = (DeflateObject *)op;
    struct params answer;
    struct tws_compression_terms terms;
    struct tws_error err;
    if (check_not_agreed(self, "accept()") < 0) {
        return NULL;
    }
    int result = read_params(self, dict, TWS_SERVER, &answer, &err);
    if (result < 0) {
        return NULL;
    }
    if (result == 0 && self->per_frame) {
        struct tws_deflate_frame_settings settings = frame_settings(self);
        terms = tws_deflate_frame_agree(&settings, &answer.frame);
    }
    else if (result == 0) {
        struct tws_permessage_deflate_settings settings =
            message_settings(self, TWS_CLIENT);
        result = tws_permessage_deflate_accept(&settings, &answer.message,
                                               &terms, &err)
                 != TWS_OK;
    }
    if (result != 0) {
        PyErr_SetString(PyExc_ValueError, err.reason);
        return NULL;
    }
    return tws_deflate_agree(self, TWS_CLIENT, &terms) < 0
               ? NULL
               : Py_NewRef(Py_None);
}
