#include "python/method_cache.h"

PyObject *
tws_method_cache_fill(struct tws_method_cache *cache, PyTypeObject *type,
                      PyObject *name)
{
    PyObject *function = NULL;
    Py_CLEAR(cache->function);
    /* A metaclass may have its own idea of attributes. */
    if (!Py_IS_TYPE(type, &PyType_Type)) {
        return NULL;
    }
    function = PyObject_GetAttr((PyObject *)type, name);
    if (function == NULL) {
        PyErr_Clear(); /* the usual look-up raises it again */
        return NULL;
    }
    /* The look-up has given the type a version, if there was one to give. */
    if (!PyFunction_Check(function) || type->tp_version_tag == 0) {
        Py_DECREF(function);
        return NULL;
    }
    cache->function = function;
    cache->version = type->tp_version_tag;
    return function;
}
