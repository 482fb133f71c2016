/* The first include of every file in this layer: Python.h, and the few names
 * that older CPython versions lack. */
#ifndef TWS_PYTHON_COMPAT_H
#define TWS_PYTHON_COMPAT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <stdbool.h>
#include <stdint.h>

#if PY_VERSION_HEX < 0x030C0000

/* Takes the pending exception, normalised; a strong reference or NULL. */
static inline PyObject *
PyErr_GetRaisedException(void)
{
    PyObject *type;
    PyObject *value;
    PyObject *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (type == NULL) {
        return NULL;
    }
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL) {
        (void)PyException_SetTraceback(value, traceback);
    }
    Py_DECREF(type);
    Py_XDECREF(traceback);
    return value;
}

/* Raises an exception object; steals it. */
static inline void
PyErr_SetRaisedException(PyObject *exception)
{
    PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
    Py_DECREF(exception);
}

#endif /* before 3.12 */

#if PY_VERSION_HEX < 0x030D0000

/* 1 and a strong reference, 0 where there is no such attribute, or -1 with an
 * exception. */
static inline int
PyObject_GetOptionalAttr(PyObject *object, PyObject *name, PyObject **result)
{
    *result = PyObject_GetAttr(object, name);
    if (*result != NULL) {
        return 1;
    }
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return -1;
    }
    PyErr_Clear();
    return 0;
}

/* 1 and a strong reference, 0 where the object is gone, or -1 with an
 * exception where `reference` is no weak reference. */
static inline int
PyWeakref_GetRef(PyObject *reference, PyObject **result)
{
    PyObject *object = PyWeakref_GetObject(reference); /* borrowed */
    *result = object == NULL || object == Py_None ? NULL : Py_NewRef(object);
    return object == NULL ? -1 : *result != NULL;
}

#endif /* before 3.13 */

#endif /* TWS_PYTHON_COMPAT_H */
