#include "python/arguments.h"

static Py_ssize_t
find_name(const char *const *names, PyObject *wanted)
{
    for (Py_ssize_t i = 0; names[i] != NULL; i++) {
        if (PyUnicode_CompareWithASCIIString(wanted, names[i]) == 0) {
            return i;
        }
    }
    return -1;
}

int
tws_parse_fastcall(const char *function, PyObject *const *args,
                   Py_ssize_t count, PyObject *kwnames,
                   const char *const *names, Py_ssize_t required,
                   Py_ssize_t positional, PyObject **values)
{
    if (count > positional) {
        PyErr_Format(PyExc_TypeError,
                     "%s() takes at most %zd positional arguments (%zd given)",
                     function, positional, count);
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        values[i] = args[i];
    }
    Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < named; i++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, i);
        Py_ssize_t at = find_name(names, name);
        if (at < 0) {
            PyErr_Format(PyExc_TypeError,
                         "%s() got an unexpected keyword argument %R",
                         function, name);
            return -1;
        }
        if (values[at] != NULL) {
            PyErr_Format(PyExc_TypeError,
                         "%s() got multiple values for argument %R", function,
                         name);
            return -1;
        }
        values[at] = args[count + i];
    }
    for (Py_ssize_t i = 0; i < required; i++) {
        if (values[i] == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() missing argument '%s'",
                         function, names[i]);
            return -1;
        }
    }
    return 0;
}

static int
check_hook(PyObject *hook, const char *name)
{
    if (hook == Py_None || PyCallable_Check(hook)) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "%s is %.200s, expected a callable or None",
                 name, Py_TYPE(hook)->tp_name);
    return -1;
}

static int
add_hook(PyObject **hooks, PyObject *hook, int prepend)
{
    if (hook == Py_None) {
        return 0;
    }
    PyObject *one = PyTuple_Pack(1, hook);
    if (one == NULL) {
        return -1;
    }
    if (*hooks != NULL) {
        PyObject *joined = prepend ? PySequence_Concat(one, *hooks)
                                   : PySequence_Concat(*hooks, one);
        Py_SETREF(one, joined);
        if (one == NULL) {
            return -1;
        }
    }
    Py_XSETREF(*hooks, one);
    return 0;
}

PyObject *
tws_add_hooks(PyObject *args, PyObject *kwargs, PyObject **send_hooks,
              PyObject **recv_hooks)
{
    static char *names[] = {"send", "recv", "prepend", NULL};
    PyObject *send = Py_None;
    PyObject *recv = Py_None;
    int prepend = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OOp:add_hook", names,
                                     &send, &recv, &prepend)
        || check_hook(send, "send") < 0 || check_hook(recv, "recv") < 0
        || add_hook(send_hooks, send, prepend) < 0
        || add_hook(recv_hooks, recv, prepend) < 0) {
        return NULL;
    }
    return Py_NewRef(Py_None);
}
