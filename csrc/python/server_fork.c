/* A child of a server's process: it has a copy of everything, but one thread,
 * and what it sends or reads would be missing in the parent. */
#include "python/server_type.h"

#include <signal.h>
#include <unistd.h>

const char tws_server_forget_doc[] =
    "_loop_forget($self, /)\n"
    "--\n"
    "\n"
    "In a forked child: the clients are the parent's.";

PyObject *
tws_server_forget(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    ((ServerObject *)self)->forked = true;
    Py_RETURN_NONE;
}

/* Nobody has called the handler that could be told, and to go on would be to
 * serve. */
void
tws_server_end_child(ServerObject *server)
{
    PyObject *error = PyErr_GetRaisedException();
    PyObject *result = PyObject_CallMethod(server->runner, "end_child", "O",
                                           error == NULL ? Py_None : error);
    /* It does not return, but a signal may have come before it began. */
    if (result == NULL) {
        PyErr_WriteUnraisable((PyObject *)server);
    }
    Py_XDECREF(result);
    Py_XDECREF(error);
    (void)kill(getpid(), SIGKILL);
}

int
tws_server_check_process(const ServerObject *server)
{
    if (TWS_LIKELY(!server->forked)) {
        return 0;
    }
    PyErr_SetString(PyExc_RuntimeError,
                    "this process was forked from the server's, which the "
                    "connections belong to: do in the parent what is to be "
                    "done with them");
    return -1;
}
