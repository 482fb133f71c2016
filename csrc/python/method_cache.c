#include "python/method_cache.h"

#ifndef Py_GIL_DISABLED

/* What a look-up in the class finds before it is bound to an object: strong,
 * or NULL without an exception. Runs no code of the class or its own class. */
static PyObject *
look_up(const PyTypeObject *type, PyObject *name)
{
    PyObject *bases = type->tp_mro;
    Py_ssize_t count = bases == NULL ? 0 : PyTuple_GET_SIZE(bases);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyTypeObject *base = (PyTypeObject *)PyTuple_GET_ITEM(bases, i);
#if PY_VERSION_HEX >= 0x030C0000
        PyObject *dict = PyType_GetDict(base);
#else
        PyObject *dict = Py_XNewRef(base->tp_dict);
#endif
        PyObject *found =
            dict == NULL ? NULL : PyDict_GetItemWithError(dict, name);
        Py_XINCREF(found);
        Py_XDECREF(dict);
        if (found != NULL || PyErr_Occurred() != NULL) {
            PyErr_Clear(); /* the usual look-up raises it again */
            return found;
        }
    }
    return NULL;
}

/* True where object.<name> is `function`, bound to it. For a function the
 * look-up has no effects but to give the type a version, if there is one to
 * give. */
static bool
binds(PyObject *object, PyObject *name, PyObject *function)
{
    PyObject *bound = PyObject_GetAttr(object, name);
    bool same = bound != NULL && PyMethod_Check(bound)
                && PyMethod_GET_FUNCTION(bound) == function
                && PyMethod_GET_SELF(bound) == object;
    PyErr_Clear(); /* the usual look-up raises it again */
    Py_XDECREF(bound);
    return same;
}

PyObject *
tws_method_cache_fill(struct tws_method_cache *cache, PyObject *object,
                      PyObject *name)
{
    PyTypeObject *type = Py_TYPE(object);
    Py_CLEAR(cache->function);
    PyObject *function = look_up(type, name);
    /* __getattribute__ or __getattr__ have their own idea of attributes. */
    bool plain = function != NULL && PyFunction_Check(function)
                 && type->tp_getattro == PyObject_GenericGetAttr
                 && binds(object, name, function);
    cache->version = type->tp_version_tag;
    if (!plain || cache->version == 0) {
        Py_XDECREF(function);
        return NULL;
    }
    cache->function = function;
    return function;
}

#endif /* with a GIL */
