/* Memory for the bytes of messages that come and go. An object of more than
 * 512 bytes is not from CPython's pools, and malloc() takes its time for what
 * is too large for its own caches: with 1 KiB, as long as copying it. So the
 * last one is kept, and is the next one where nobody else has it by then. */
#ifndef TWS_PYTHON_SPARE_BYTES_H
#define TWS_PYTHON_SPARE_BYTES_H

#include "python/state.h"

/* A bytes object whose content is to be written, all of it, before anything
 * else happens. A new reference, or NULL with an exception. */
PyObject *tws_spare_bytes(struct tws_state *state, size_t length);

#endif /* TWS_PYTHON_SPARE_BYTES_H */
