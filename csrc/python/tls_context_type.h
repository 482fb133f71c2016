/* `_TLSContext`: a struct tws_tls_context for Python, made of checked
 * ssl_args by twspy/_tls.py. Private, immutable. */
#ifndef TWS_PYTHON_TLS_CONTEXT_TYPE_H
#define TWS_PYTHON_TLS_CONTEXT_TYPE_H

#include "python/state.h"

#include "net/tls.h"

extern PyType_Spec tws_tls_context_spec;

/* Borrowed; NULL without an exception where `object` is none. */
struct tws_tls_context *tws_tls_context_in(struct tws_state *state,
                                           PyObject *object);

/* Docstring and function of the module: parse_certificate(der). */
extern const char tws_parse_certificate_doc[];
PyObject *tws_parse_certificate(PyObject *module, PyObject *der);

/* (name, version, bits), as ssl.SSLSocket.cipher() tells it. */
PyObject *tws_tls_cipher_object(const struct tws_tls_info *info);

#endif /* TWS_PYTHON_TLS_CONTEXT_TYPE_H */
