/* The module's state: every type, exception class and interned name. There
 * is one for each interpreter that imports the module, and no PyObject
 * lives outside of it. Objects on hot paths keep a borrowed pointer to it:
 * their type keeps the module, and so the state, alive. */
#ifndef TWS_PYTHON_STATE_H
#define TWS_PYTHON_STATE_H

#include "python/compat.h"

#include "net/random.h"

/* Names of methods called and attributes read on Python objects. */
#define TWS_NAMES(X)                                                          \
    X(onopen)                                                                 \
    X(onmessage)                                                              \
    X(onclose)                                                                \
    X(onping)                                                                 \
    X(onpong)                                                                 \
    X(onerror)                                                                \
    X(onrequest)                                                              \
    X(onsent)                                                                 \
    X(onsend)                                                                 \
    X(onrecv)                                                                 \
    X(spawn)                                                                  \
    X(exhausted)                                                              \
    X(stopping)                                                               \
    X(ended)                                                                  \
    X(loads)                                                                  \
    X(code)                                                                   \
    X(context_for)                                                            \
    X(server_hostname)

/* Classes and functions defined in Python, by the module they come from. */
#define TWS_IMPORTS(X)                                                        \
    X("socket", socket)                                                       \
    X("socket", gaierror)                                                     \
    X("socket", getdefaulttimeout)                                            \
    X("twspy.errors", WebSocketError)                                         \
    X("twspy.errors", HandshakeError)                                         \
    X("twspy.errors", ProtocolError)                                          \
    X("twspy.errors", SocketClosed)                                           \
    X("twspy.errors", PingError)                                              \
    X("twspy.errors", SSLError)                                               \
    X("twspy.errors", ConcurrencyError)                                       \
    X("twspy._keeper", start_keeper)                                          \
    X("twspy._ha1", HA1)                                                      \
    X("twspy.http", Headers)                                                  \
    X("twspy.http", Request)                                                  \
    X("twspy.http", Response)                                                 \
    X("twspy.extensions", Extension)                                          \
    X("twspy._negotiation", read_templates)                                   \
    X("twspy._negotiation", claims_of)                                        \
    X("twspy._negotiation", make_offer)                                       \
    X("twspy._negotiation", judge_answer)                                     \
    X("twspy._negotiation", judge_offers)                                     \
    X("twspy._onhandshake", call_onhandshake)                                 \
    X("twspy._support", log_accept_paused)                                    \
    X("twspy._support", log_client_ended)                                     \
    X("twspy._support", log_debug)                                            \
    X("twspy._support", log_ended)                                            \
    X("twspy._support", log_refused)                                          \
    X("twspy._support", log_foreign_origin)                                   \
    X("twspy._support", log_unhandled)                                        \
    X("twspy._support", takes_close_message)                                  \
    X("twspy._tls", SSLSettings)                                              \
    X("twspy._tls", read_certificate)                                         \
    X("twspy._tls", start_bridge)                                             \
    X("unicodedata", normalize)

struct tws_state {
    PyTypeObject *frame_type;
    PyTypeObject *control_frame_type;
    PyTypeObject *message_type;
    PyTypeObject *text_message_type;
    PyTypeObject *binary_message_type;
    PyTypeObject *close_message_type;
    PyTypeObject *websocket_type;
    PyTypeObject *connection_type;
    PyTypeObject *recv_stream_type;
    PyTypeObject *send_stream_type;
    PyTypeObject *server_type;
    PyTypeObject *tls_context_type;
    PyTypeObject *auth_type;
    PyTypeObject *deflate_type;
    PyTypeObject *deflate_message_type;
    PyTypeObject *deflate_frame_type;
    PyTypeObject *webkit_deflate_frame_type;

    PyObject *spare_messages; /* memory for new ones, linked by `payload` */
    unsigned spare_count;
    PyObject *spare_bytes; /* see spare_bytes.h; or NULL */
    Py_ssize_t spare_room; /* for how many bytes it has memory */

    PyObject *received_text; /* strong, or NULL; see received_text.h */
    struct tws_span received_utf8;

    struct tws_mask_pool *mask_pool; /* owned */
    struct tws_keeper *keeper;       /* owned; see keeper.h */

#define X(name) PyObject *str_##name;
    TWS_NAMES(X)
#undef X
#define X(module, name) PyObject *name;
    TWS_IMPORTS(X)
#undef X
};

extern struct PyModuleDef tws_module_def;

static inline struct tws_state *
tws_state_of_module(PyObject *module)
{
    return (struct tws_state *)PyModule_GetState(module);
}

/* The state behind a type of ours or a subclass of one. NULL with TypeError
 * can't happen for such types. */
static inline struct tws_state *
tws_state_of_type(PyTypeObject *type)
{
    PyObject *module = PyType_GetModuleByDef(type, &tws_module_def);
    return module == NULL ? NULL : tws_state_of_module(module);
}

#endif /* TWS_PYTHON_STATE_H */
