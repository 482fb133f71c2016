/* The user name and password of a client: auth=('user', 'password'). */
#ifndef TWS_PYTHON_CREDENTIALS_H
#define TWS_PYTHON_CREDENTIALS_H

#include "python/state.h"

/* Reads the option `auth` (NULL: it was not given). Of a pair of str *user and
 * *password are set, new references: in Unicode's form NFC, without control
 * characters, the user name without a colon. What a server asks with is left
 * to its owner, as it may be a part of a reference cycle. -1 with TypeError or
 * ValueError, which never show a password. */
int tws_credentials_read(struct tws_state *state, PyObject *auth,
                         PyObject **user, PyObject **password);

#endif /* TWS_PYTHON_CREDENTIALS_H */
