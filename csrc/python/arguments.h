/* Reading the arguments of methods, where CPython's own parser is too slow
 * (one call a message) or the same arguments are read in two places. */
#ifndef TWS_PYTHON_ARGUMENTS_H
#define TWS_PYTHON_ARGUMENTS_H

#include "python/state.h"

/* Sorts the arguments of a METH_FASTCALL | METH_KEYWORDS call into `values`
 * (borrowed; NULL where absent), in the order of `names` (ended by NULL). The
 * first `required` must be there, at most `positional` may come without
 * their name. -1 with TypeError. */
int tws_parse_fastcall(const char *function, PyObject *const *args,
                       Py_ssize_t count, PyObject *kwnames,
                       const char *const *names, Py_ssize_t required,
                       Py_ssize_t positional, PyObject **values);

/* add_hook(send=None, recv=None, prepend=False): puts callables into two
 * tuples (strong, NULL for none), which it replaces rather than changes, so
 * that whoever runs one may hold on to it. None, or NULL with TypeError. */
PyObject *tws_add_hooks(PyObject *args, PyObject *kwargs,
                        PyObject **send_hooks, PyObject **recv_hooks);

#endif /* TWS_PYTHON_ARGUMENTS_H */
