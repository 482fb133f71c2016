/* Which extensions a connection uses (RFC 6455 §9.1): between the header
 * fields of a handshake and twspy/_negotiation.py, which decides, and what
 * follows from that for its frames. */
#ifndef TWS_PYTHON_EXTENSIONS_AGREED_H
#define TWS_PYTHON_EXTENSIONS_AGREED_H

#include "python/extension_chain.h"

#include "protocol/agreed.h"
#include "protocol/http1.h"

/* The options `extensions` and `compression` (NULL: not given) as a tuple of
 * templates. NULL with TypeError or ValueError. */
PyObject *tws_extensions_read(struct tws_state *state, PyObject *extensions,
                              PyObject *compression);

/* Of a client: makes an instance of each template (NULL: there are none), and
 * *value, which borrows from the result, of what they offer: empty where there
 * is nothing. A new tuple, or NULL with an exception. */
PyObject *tws_extensions_offer(struct tws_state *state, PyObject *templates,
                               struct tws_span *value);
/* The answer's value (empty: none) to that offer: the agreed ones, a new
 * tuple. `response` is for the HandshakeError. NULL with an exception. */
PyObject *tws_extensions_judge_answer(struct tws_state *state, PyObject *offer,
                                      struct tws_span value,
                                      PyObject *response);

/* Of a server: which of the offers in a request's head it takes up: a tuple of
 * the agreed instances and the value of the answer's field, a str. NULL with
 * an exception. */
PyObject *tws_extensions_judge_offers(struct tws_state *state,
                                      PyObject *templates,
                                      const struct tws_http_head *head);
/* The two halves of that, borrowed. -1 with an exception. */
int tws_extensions_unpack(PyObject *judged, PyObject **agreed,
                          struct tws_span *value);

/* What the agreed ones (a tuple; NULL: none) mean for the frames of an end:
 * *result, but for its `extensions`. `compresses`: where the only one is of a
 * type of ours, that is a `compression` (owned by the caller), and what sends
 * and receives does the rest. Else it is *chain (owned by the caller); NULL:
 * frames stay as they are. -1 with an exception. */
int tws_extensions_settle(struct tws_state *state, PyObject *agreed,
                          enum tws_role role, bool compresses,
                          const struct tws_message_limits *limits,
                          struct tws_agreed *result, struct tws_chain **chain);

/* _parse_extensions(value), for tests. */
extern const char tws_parse_extensions_doc[];
PyObject *tws_parse_extensions(PyObject *module, PyObject *value);

#endif /* TWS_PYTHON_EXTENSIONS_AGREED_H */
