/* What the program asks of the extensions that compress. */
#include "python/deflate_type.h"

#include "python/options.h"

/* -1 with TypeError or ValueError that names the argument. */
static int
read_level(PyObject *given, int8_t *level)
{
    if (given == NULL) {
        return 0;
    }
    if (PyBool_Check(given) || !PyIndex_Check(given)) {
        PyErr_Format(PyExc_TypeError,
                     "level is %.200s, expected an int from -1 to 9",
                     Py_TYPE(given)->tp_name);
        return -1;
    }
    Py_ssize_t value = PyNumber_AsSsize_t(given, NULL); /* clipped */
    if (value == -1 && PyErr_Occurred() != NULL) {
        return -1;
    }
    if (value < -1 || value > 9) {
        PyErr_Format(PyExc_ValueError,
                     "level is %R, expected an int from -1 to 9", given);
        return -1;
    }
    *level = (int8_t)value;
    return 0;
}

static int
read_bits(PyObject *given, const char *name, uint8_t *bits)
{
    static const struct tws_size_range range = {.least = TWS_WINDOW_BITS_MIN,
                                                .most = TWS_WINDOW_BITS_MAX,
                                                .none = "no limit"};
    size_t value = SIZE_MAX;
    if (tws_option_size(given, name, &range, &value) < 0) {
        return -1;
    }
    *bits = value == SIZE_MAX ? TWS_WINDOW_BITS_NONE : (uint8_t)value;
    return 0;
}

/* What the three types have in common. */
static int
read_effort(DeflateObject *self, PyObject *level, PyObject *mem_level,
            PyObject *threshold)
{
    static const struct tws_size_range memory = {.least = 1, .most = 9};
    static const struct tws_size_range sizes = {.least = 0,
                                                .most = PY_SSIZE_T_MAX};
    size_t given = self->out.mem_level;
    if (read_level(level, &self->out.level) < 0
        || tws_option_size(mem_level, "mem_level", &memory, &given) < 0
        || tws_option_size(threshold, "threshold", &sizes, &self->threshold)
               < 0) {
        return -1;
    }
    self->out.mem_level = (uint8_t)given;
    return 0;
}

/* An instance that is in use, or may be soon, does not change. */
static int
check_first(DeflateObject *self)
{
    if (self->made || self->agreed) {
        PyErr_Format(PyExc_RuntimeError, "%.200s.__init__() was called before",
                     Py_TYPE(self)->tp_name);
        return -1;
    }
    return 0;
}

const char tws_deflate_message_doc[] = PyDoc_STR(
    "DeflateMessage(*, server_no_context_takeover=False,\n"
    "               client_no_context_takeover=False,\n"
    "               server_max_window_bits=None, "
    "client_max_window_bits=True,\n"
    "               level=-1, mem_level=5, threshold=64, shared=False)\n"
    "--\n"
    "\n"
    "permessage-deflate: compresses messages (RFC 7692).\n"
    "\n"
    "Give it as compression= or among extensions= to connect(), Server,\n"
    "websocket or pair(). It is a template then: each connection gets a "
    "copy,\n"
    "and copies share a pool of idle contexts.\n"
    "\n"
    "server_no_context_takeover  True: the server compresses each message "
    "for\n"
    "        itself. That costs compression, and saves the memory for what\n"
    "        was said last (up to 2 ** bits bytes between messages). A "
    "client\n"
    "        demands it, a server does it.\n"
    "client_no_context_takeover  the same of the client. A client does it, a\n"
    "        server demands it.\n"
    "server_max_window_bits      8 to 15, or None: the server refers back at\n"
    "        most 2 ** bits bytes. A client demands it, a server does it, "
    "and\n"
    "        uses 12 where it is None.\n"
    "client_max_window_bits      the same of the client. True: a client lets\n"
    "        the server choose, and uses 12 at most; a server asks for 12.\n"
    "        None: a client does not offer it, so that it is not limited; a\n"
    "        server takes what comes. A server asks only those that offer it\n"
    "        (RFC 7692 section 7.1.2.2).\n"
    "level       -1 (zlib's choice) to 9, of what is sent: 0 does not\n"
    "        compress, 1 is fastest, 9 is smallest.\n"
    "mem_level   1 to 9, of what is sent: memory that is spent on speed.\n"
    "threshold   bytes; smaller messages are sent as they are, unless\n"
    "        send(compress=True) says otherwise.\n"
    "shared      True: no context takeover either way, as far as this end "
    "can\n"
    "        ask for it, so that connections keep nothing of what was said.\n"
    "\n"
    "All of these are attributes, too; in a connection's `extensions` they "
    "say\n"
    "what was agreed on. Raises TypeError and ValueError for arguments that\n"
    "are none of these. Instances may be shared by threads.");

static int
read_client_bits(PyObject *given, uint8_t *bits)
{
    if (given == NULL || given == Py_True) {
        *bits = TWS_WINDOW_BITS_OPEN;
        return 0;
    }
    return read_bits(given, "client_max_window_bits", bits);
}

int
tws_deflate_message_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"server_no_context_takeover",
                            "client_no_context_takeover",
                            "server_max_window_bits",
                            "client_max_window_bits",
                            "level",
                            "mem_level",
                            "threshold",
                            "shared",
                            NULL};
    DeflateObject *self = (DeflateObject *)op;
    PyObject *server_bits = NULL;
    PyObject *client_bits = NULL;
    PyObject *level = NULL;
    PyObject *mem_level = NULL;
    PyObject *threshold = NULL;
    int server_alone = 0;
    int client_alone = 0;
    int shared = 0;
    if (check_first(self) < 0
        || !PyArg_ParseTupleAndKeywords(
            args, kwargs, "|$ppOOOOOp:DeflateMessage", names, &server_alone,
            &client_alone, &server_bits, &client_bits, &level, &mem_level,
            &threshold, &shared)
        || read_bits(server_bits, "server_max_window_bits",
                     &self->asked.server_max_window_bits)
               < 0
        || read_client_bits(client_bits, &self->asked.client_max_window_bits)
               < 0
        || read_effort(self, level, mem_level, threshold) < 0) {
        return -1;
    }
    self->shared = shared != 0;
    self->asked.server_no_context_takeover = server_alone != 0;
    self->asked.client_no_context_takeover = client_alone != 0;
    self->made = true;
    return 0;
}

const char tws_deflate_frame_doc[] = PyDoc_STR(
    "DeflateFrame(*, max_window_bits=None, no_context_takeover=False,\n"
    "             level=-1, mem_level=5, threshold=64)\n"
    "--\n"
    "\n"
    "deflate-frame: compresses each frame for itself, as old browsers do\n"
    "(draft-tyoshino-hybi-websocket-perframe-deflate-06). A client offers it\n"
    "by that name, a server knows it as x-webkit-deflate-frame, too.\n"
    "\n"
    "max_window_bits      8 to 15, or None: the peer is to refer back at "
    "most\n"
    "        2 ** bits bytes.\n"
    "no_context_takeover  True: neither end refers to earlier frames: the "
    "peer\n"
    "        is asked not to, and this end does not.\n"
    "\n"
    "level, mem_level, threshold and all the rest: as of DeflateMessage. In "
    "a\n"
    "connection's `extensions` the attributes max_window_bits and\n"
    "no_context_takeover say what the peer keeps to, peer_max_window_bits "
    "and\n"
    "peer_no_context_takeover what this end keeps to.");

int
tws_deflate_frame_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"max_window_bits", "no_context_takeover", "level",
                            "mem_level",       "threshold",           NULL};
    DeflateObject *self = (DeflateObject *)op;
    PyObject *bits = NULL;
    PyObject *level = NULL;
    PyObject *mem_level = NULL;
    PyObject *threshold = NULL;
    int alone = 0;
    if (check_first(self) < 0
        || !PyArg_ParseTupleAndKeywords(args, kwargs, "|$OpOOO:DeflateFrame",
                                        names, &bits, &alone, &level,
                                        &mem_level, &threshold)
        || read_bits(bits, "max_window_bits",
                     &self->asked_of_frames.max_window_bits)
               < 0
        || read_effort(self, level, mem_level, threshold) < 0) {
        return -1;
    }
    self->asked_of_frames.no_context_takeover = alone != 0;
    self->made = true;
    return 0;
}

const char tws_webkit_deflate_frame_doc[] = PyDoc_STR(
    "WebkitDeflateFrame(*, max_window_bits=None, no_context_takeover=False,\n"
    "                   level=-1, mem_level=5, threshold=64)\n"
    "--\n"
    "\n"
    "DeflateFrame by its older name alone, x-webkit-deflate-frame, which a\n"
    "client offers and a server knows. All else is as there.");
