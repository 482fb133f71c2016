/* Telling of foreign web pages where nobody asked for a check. */
#ifndef TWS_PYTHON_ORIGIN_NOTICE_H
#define TWS_PYTHON_ORIGIN_NOTICE_H

#include "python/options.h"

/* With no check asked for (`trusted_origins` empty), any page may connect: the
 * first that comes from elsewhere is worth a warning in the log. *seen
 * remembers that it was given. -1 with an exception. */
int tws_notice_foreign_origin(struct tws_state *state,
                              const struct tws_options *options,
                              const struct tws_http_head *head, bool *seen);

#endif /* TWS_PYTHON_ORIGIN_NOTICE_H */
