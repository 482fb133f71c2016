/* Finds a method that a class defines in Python, without a look-up at each
 * call: the function is good for as long as neither the class nor one of its
 * bases has changed, which CPython tells by the type's version. */
#ifndef TWS_PYTHON_METHOD_CACHE_H
#define TWS_PYTHON_METHOD_CACHE_H

#include "python/state.h"

/* A zeroed struct is ready for use. */
struct tws_method_cache {
    PyObject *function;   /* strong; NULL: it has to be looked up */
    unsigned int version; /* of the type that is true of; 0: of none */
};

/* The function type(object).<name>; NULL, without an exception, where that is
 * something else. */
PyObject *tws_method_cache_fill(struct tws_method_cache *cache,
                                PyObject *object, PyObject *name);

/* The function to be called with `object` in front, borrowed until Python code
 * runs. NULL, without an exception, where it has to be looked up: it is
 * overridden in the object's own __dict__ (`dict`, or NULL), is no plain
 * function, or other threads may change the type meanwhile. */
static inline PyObject *
tws_method_cache_get(struct tws_method_cache *cache, PyObject *object,
                     PyObject *dict, PyObject *name)
{
#ifdef Py_GIL_DISABLED
    (void)cache;
    (void)object;
    (void)dict;
    (void)name;
    return NULL;
#else
    if (dict != NULL && PyDict_GET_SIZE(dict) > 0
        && PyDict_Contains(dict, name) != 0) {
        PyErr_Clear(); /* the usual look-up raises it again */
        return NULL;
    }
    unsigned int version = Py_TYPE(object)->tp_version_tag;
    /* Of an object whose class was replaced the version differs as well. */
    if (TWS_LIKELY(cache->version == version && version != 0)) {
        return cache->function;
    }
    return tws_method_cache_fill(cache, object, name);
#endif
}

static inline void
tws_method_cache_clear(struct tws_method_cache *cache)
{
    Py_CLEAR(cache->function);
}

#endif /* TWS_PYTHON_METHOD_CACHE_H */
