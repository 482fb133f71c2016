/* A child of a server's process: it has a copy of everything, but one thread,
 * and what it sends or reads would be missing in the parent. */
#include "python/server_type.h"

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
 * serve. What the handler has raised is shown. */
void
tws_server_end_child(ServerObject *server)
{
    if (PyErr_Occurred() != NULL) {
        PyErr_WriteUnraisable((PyObject *)server);
    }
    PyErr_SetString(PyExc_RuntimeError,
                    "a child process has returned from a handler, and ends "
                    "here: the connections are its parent's; end a child "
                    "with os._exit()");
    PyErr_WriteUnraisable((PyObject *)server);
    _exit(1);
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
