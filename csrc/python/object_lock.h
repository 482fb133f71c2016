/* An object's own lock, which interpreters have and need where there is no
 * GIL. Nothing is called while it is held. */
#ifndef TWS_PYTHON_OBJECT_LOCK_H
#define TWS_PYTHON_OBJECT_LOCK_H

#include <Python.h>

#ifdef Py_GIL_DISABLED
#define TWS_BEGIN_LOCKED(object) Py_BEGIN_CRITICAL_SECTION(object)
#define TWS_END_LOCKED Py_END_CRITICAL_SECTION()
#else
#define TWS_BEGIN_LOCKED(object) {
#define TWS_END_LOCKED }
#endif

#endif /* TWS_PYTHON_OBJECT_LOCK_H */
