/* Module twspy._twspy: definition, types, constants. */
#include "python/state.h"

#include "python/auth_type.h"
#include "python/build_facts.h"
#include "python/connection_streams.h"
#include "python/connection_type.h"
#include "python/deflate_type.h"
#include "python/extensions_agreed.h"
#include "python/frame_type.h"
#include "python/keeper.h"
#include "python/message_type.h"
#include "python/websocket_type.h"
#include "python/server_type.h"
#include "python/tls_context_type.h"
#include "protocol/close_code.h"

static int
add_type(PyObject *module, PyType_Spec *spec, PyTypeObject *base,
         PyTypeObject **slot)
{
    *slot = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec,
                                                     (PyObject *)base);
    return *slot == NULL ? -1 : PyModule_AddType(module, *slot);
}

static int
add_types(PyObject *module, struct tws_state *s)
{
    if (add_type(module, &tws_frame_spec, NULL, &s->frame_type) < 0
        || add_type(module, &tws_control_frame_spec, s->frame_type,
                    &s->control_frame_type)
               < 0
        || add_type(module, &tws_message_spec, NULL, &s->message_type) < 0
        || add_type(module, &tws_text_message_spec, s->message_type,
                    &s->text_message_type)
               < 0
        || add_type(module, &tws_binary_message_spec, s->message_type,
                    &s->binary_message_type)
               < 0
        || add_type(module, &tws_close_message_spec, s->message_type,
                    &s->close_message_type)
               < 0
        || add_type(module, &tws_websocket_spec, NULL, &s->websocket_type) < 0
        || add_type(module, &tws_connection_spec, NULL, &s->connection_type)
               < 0
        || add_type(module, &tws_recv_stream_spec, NULL, &s->recv_stream_type)
               < 0
        || add_type(module, &tws_send_stream_spec, NULL, &s->send_stream_type)
               < 0
        || add_type(module, &tws_server_spec, NULL, &s->server_type) < 0
        || add_type(module, &tws_tls_context_spec, NULL, &s->tls_context_type)
               < 0
        || add_type(module, &tws_auth_spec, NULL, &s->auth_type) < 0) {
        return -1;
    }
    tws_message_types_finish(s);
    return 0;
}

/* The base of these is a class from Python. */
static int
add_deflate_types(PyObject *module, struct tws_state *s)
{
    if (tws_deflate_check_base(s) < 0
        || add_type(module, &tws_deflate_spec, (PyTypeObject *)s->Extension,
                    &s->deflate_type)
               < 0
        || add_type(module, &tws_deflate_message_spec, s->deflate_type,
                    &s->deflate_message_type)
               < 0
        || add_type(module, &tws_deflate_frame_spec, s->deflate_type,
                    &s->deflate_frame_type)
               < 0
        || add_type(module, &tws_webkit_deflate_frame_spec,
                    s->deflate_frame_type, &s->webkit_deflate_frame_type)
               < 0) {
        return -1;
    }
    return tws_deflate_types_finish(s);
}

static int
add_constants(PyObject *module)
{
    static const struct {
        const char *name;
        int value;
    } constants[] = {
        {"OPCODE_CONTINUATION", TWS_OPCODE_CONTINUATION},
        {"OPCODE_TEXT", TWS_OPCODE_TEXT},
        {"OPCODE_BINARY", TWS_OPCODE_BINARY},
        {"OPCODE_CLOSE", TWS_OPCODE_CLOSE},
        {"OPCODE_PING", TWS_OPCODE_PING},
        {"OPCODE_PONG", TWS_OPCODE_PONG},
        {"CLOSE_NORMAL", TWS_CLOSE_NORMAL},
        {"CLOSE_GOING_AWAY", TWS_CLOSE_GOING_AWAY},
        {"CLOSE_PROTOCOL_ERROR", TWS_CLOSE_PROTOCOL_ERROR},
        {"CLOSE_NOACCEPT_DTYPE", TWS_CLOSE_NOACCEPT_DTYPE},
        {"CLOSE_NO_STATUS", TWS_CLOSE_NO_STATUS},
        {"CLOSE_ABNORMAL", TWS_CLOSE_ABNORMAL},
        {"CLOSE_INVALID_DATA", TWS_CLOSE_INVALID_DATA},
        {"CLOSE_POLICY", TWS_CLOSE_POLICY},
        {"CLOSE_MESSAGE_TOOBIG", TWS_CLOSE_MESSAGE_TOOBIG},
        {"CLOSE_MISSING_EXTENSIONS", TWS_CLOSE_MISSING_EXTENSIONS},
        {"CLOSE_UNABLE", TWS_CLOSE_UNABLE},
        {"CLOSE_SERVICE_RESTART", TWS_CLOSE_SERVICE_RESTART},
        {"CLOSE_TRY_AGAIN_LATER", TWS_CLOSE_TRY_AGAIN_LATER},
        {"CLOSE_BAD_GATEWAY", TWS_CLOSE_BAD_GATEWAY},
        {"CLOSE_TLS_FAILURE", TWS_CLOSE_TLS_FAILURE},
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(constants); i++) {
        if (PyModule_AddIntConstant(module, constants[i].name,
                                    constants[i].value)
            < 0) {
            return -1;
        }
    }
    return 0;
}

static int
import_name(const char *module_name, const char *name, PyObject **slot)
{
    PyObject *module = PyImport_ImportModule(module_name);
    if (module == NULL) {
        return -1;
    }
    *slot = PyObject_GetAttrString(module, name);
    Py_DECREF(module);
    return *slot == NULL ? -1 : 0;
}

static int
fill_names(struct tws_state *s)
{
#define X(name)                                                               \
    s->str_##name = PyUnicode_InternFromString(#name);                        \
    if (s->str_##name == NULL) {                                              \
        return -1;                                                            \
    }
    TWS_NAMES(X)
#undef X
#define X(module, name)                                                       \
    if (import_name(module, #name, &s->name) < 0) {                           \
        return -1;                                                            \
    }
    TWS_IMPORTS(X)
#undef X
    return 0;
}

static int
module_exec(PyObject *module)
{
    struct tws_state *s = tws_state_of_module(module);
    s->mask_pool = tws_mask_pool_new();
    if (s->mask_pool == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    s->keeper = tws_keeper_new();
    if (s->keeper == NULL) {
        return -1;
    }
    if (fill_names(s) < 0 || add_types(module, s) < 0
        || add_deflate_types(module, s) < 0 || add_constants(module) < 0
        || PyModule_AddFunctions(module, tws_keeper_functions) < 0) {
        return -1;
    }
    return 0;
}

#define TWS_TYPES(X)                                                          \
    X(frame_type)                                                             \
    X(control_frame_type)                                                     \
    X(message_type)                                                           \
    X(text_message_type)                                                      \
    X(binary_message_type)                                                    \
    X(close_message_type)                                                     \
    X(websocket_type)                                                         \
    X(connection_type)                                                        \
    X(recv_stream_type)                                                       \
    X(send_stream_type)                                                       \
    X(server_type)                                                            \
    X(tls_context_type)                                                       \
    X(auth_type)                                                              \
    X(deflate_type)                                                           \
    X(deflate_message_type)                                                   \
    X(deflate_frame_type)                                                     \
    X(webkit_deflate_frame_type)

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    struct tws_state *s = tws_state_of_module(module);
#define X(name) Py_VISIT(s->name);
    TWS_TYPES(X)
#undef X
#define X(origin, name) Py_VISIT(s->name);
    TWS_IMPORTS(X)
#undef X
    return 0;
}

static int
module_clear(PyObject *module)
{
    struct tws_state *s = tws_state_of_module(module);
    Py_CLEAR(s->received_text);
#define X(name) Py_CLEAR(s->name);
    TWS_TYPES(X)
#undef X
#define X(name) Py_CLEAR(s->str_##name);
    TWS_NAMES(X)
#undef X
#define X(origin, name) Py_CLEAR(s->name);
    TWS_IMPORTS(X)
#undef X
    return 0;
}

static void
module_free(void *module)
{
    struct tws_state *s = tws_state_of_module(module);
    (void)module_clear(module);
    tws_message_drop_spares(s);
    Py_CLEAR(s->spare_bytes);
    tws_keeper_free(s->keeper);
    s->keeper = NULL;
    tws_mask_pool_free(s->mask_pool);
    s->mask_pool = NULL;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL},
};

static PyMethodDef module_methods[] = {
    {"build_facts", tws_build_facts, METH_NOARGS, tws_build_facts_doc},
    {"_parse_certificate", tws_parse_certificate, METH_O,
     tws_parse_certificate_doc},
    {"_parse_extensions", tws_parse_extensions, METH_O,
     tws_parse_extensions_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(module_doc,
             "WebSocket types of twspy, in C. Private: use twspy.");

struct PyModuleDef tws_module_def = {
    PyModuleDef_HEAD_INIT,         .m_name = "twspy._twspy",
    .m_doc = module_doc,           .m_size = sizeof(struct tws_state),
    .m_methods = module_methods,   .m_slots = module_slots,
    .m_traverse = module_traverse, .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__twspy(void);

PyMODINIT_FUNC
PyInit__twspy(void)
{
    return PyModuleDef_Init(&tws_module_def);
}
