/* HTTP heads as the Python objects of twspy.http. */
#ifndef TWS_PYTHON_HEAD_OBJECTS_H
#define TWS_PYTHON_HEAD_OBJECTS_H

#include "python/state.h"

#include "protocol/http1.h"

/* Request(method, target, headers, remote_address). */
PyObject *tws_request_object(struct tws_state *state,
                             const struct tws_http_head *head,
                             PyObject *remote_address);
/* Response(status, headers, body) as received; `body` may be empty. */
PyObject *tws_response_object(struct tws_state *state,
                              const struct tws_http_head *head,
                              struct tws_span body);
/* A list of (name, value) str pairs, decoded as ISO 8859-1. */
PyObject *tws_field_list(const struct tws_http_head *head);

#endif /* TWS_PYTHON_HEAD_OBJECTS_H */
