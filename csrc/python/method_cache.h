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
    uint64_t clear_dict;  /* version of a __dict__ without the name; CPython
                           * before 3.12 has them */
};

/* The function type(object).<name>; NULL, without an exception, where that is
 * something else. */
PyObject *tws_method_cache_fill(struct tws_method_cache *cache,
                                PyObject *object, PyObject *name);

#ifndef Py_GIL_DISABLED
/* True where the object's own __dict__ (or NULL) has the name, or it can't be
 * told. */
static inline bool
tws_method_cache_overridden(struct tws_method_cache *cache, PyObject *dict,
                            PyObject *name)
{
    if (dict == NULL || PyDict_GET_SIZE(dict) == 0) {
        return false;
    }
#if PY_VERSION_HEX < 0x030C0000
    /* No two states of any dicts have the same version. */
    uint64_t version = ((const PyDictObject *)dict)->ma_version_tag;
    if (TWS_LIKELY(version == cache->clear_dict)) {
        return false;
    }
    cache->clear_dict = version;
#endif
    if (TWS_LIKELY(PyDict_Contains(dict, name) == 0)) {
        return false;
    }
    cache->clear_dict = 0;
    PyErr_Clear(); /* the usual look-up raises it again */
    return true;
}
#endif

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
    if (tws_method_cache_overridden(cache, dict, name)) {
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
