#include "python/destination.h"

#include <stddef.h>
#include <sys/un.h>

/* A host as the bytes that the resolver takes; names that are not ASCII in
 * their IDNA form. */
static int
read_host(PyObject *object, char out[TWS_HOST_MAX + 1])
{
    int result = -1;
    PyObject *bytes;
    if (PyUnicode_Check(object) && !PyUnicode_IS_ASCII(object)) {
        bytes = PyUnicode_AsEncodedString(object, "idna", NULL);
    }
    else if (PyUnicode_Check(object)) {
        bytes = PyUnicode_AsASCIIString(object);
    }
    else if (PyBytes_Check(object)) {
        bytes = Py_NewRef(object);
    }
    else {
        PyErr_Format(PyExc_TypeError,
                     "the host of an address is %.200s, expected str",
                     Py_TYPE(object)->tp_name);
        return -1;
    }
    if (bytes == NULL) {
        return -1;
    }
    size_t length = (size_t)PyBytes_GET_SIZE(bytes);
    const char *data = PyBytes_AS_STRING(bytes);
    if (length > TWS_HOST_MAX || memchr(data, '\0', length) != NULL) {
        PyErr_Format(PyExc_ValueError,
                     "host is %R, expected at most %d bytes without NUL",
                     object, TWS_HOST_MAX);
        goto done;
    }
    memcpy(out, data, length);
    out[length] = '\0';
    result = 0;
done:
    Py_DECREF(bytes);
    return result;
}

static int
read_port(PyObject *object, uint16_t *port)
{
    long number = PyLong_AsLong(object);
    if (number == -1 && PyErr_Occurred() != NULL) {
        return -1;
    }
    if (number < 0 || number > UINT16_MAX) {
        PyErr_Format(PyExc_OverflowError,
                     "the port of an address is %ld, expected 0 to 65535",
                     number);
        return -1;
    }
    *port = (uint16_t)number;
    return 0;
}

static int
read_unix_path(PyObject *object, struct tws_destination *to)
{
    struct sockaddr_un *sun = (struct sockaddr_un *)&to->address.storage;
    PyObject *path = NULL;
    if (PyObject_CheckBuffer(object)) {
        path = PyBytes_FromObject(object); /* the abstract name space, too */
    }
    else if (PyUnicode_FSConverter(object, &path) == 0) {
        path = NULL;
    }
    if (path == NULL) {
        return -1;
    }
    size_t length = (size_t)PyBytes_GET_SIZE(path);
    const char *data = PyBytes_AS_STRING(path);
    bool abstract = length > 0 && data[0] == '\0';
    if (length + (abstract ? 0 : 1) > sizeof(sun->sun_path)) {
        PyErr_SetString(PyExc_OSError, "AF_UNIX path too long");
        Py_DECREF(path);
        return -1;
    }
    *sun = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(sun->sun_path, data, length);
    to->address.length = (socklen_t)(offsetof(struct sockaddr_un, sun_path)
                                     + length + (abstract ? 0 : 1));
    to->is_unix = true;
    Py_DECREF(path);
    return 0;
}

int
tws_destination_read(PyObject *address, int family, struct tws_destination *to)
{
    *to = (struct tws_destination){.is_unix = false};
    if (family == AF_UNIX) {
        return read_unix_path(address, to);
    }
    if (!PyTuple_Check(address) || PyTuple_GET_SIZE(address) < 2
        || PyTuple_GET_SIZE(address) > 4) {
        /* Not what it is: a URL can have a password in it. */
        PyErr_Format(
            PyExc_TypeError,
            "address is %.200s, expected a tuple (host, port)%s",
            Py_TYPE(address)->tp_name,
            PyUnicode_Check(address) ? " (twspy.connect() takes a URL)" : "");
        return -1;
    }
    return read_port(PyTuple_GET_ITEM(address, 1), &to->port) < 0
               ? -1
               : read_host(PyTuple_GET_ITEM(address, 0), to->host);
}

/* --- a proxy --- */

static int
read_scheme(PyObject *scheme, enum tws_proxy_kind *kind)
{
    static const struct {
        const char *name;
        enum tws_proxy_kind kind;
    } known[] = {
        {"http", TWS_PROXY_HTTP},
        {"https", TWS_PROXY_HTTPS},
        {"socks5", TWS_PROXY_SOCKS5},
        {"socks5h", TWS_PROXY_SOCKS5H},
    };
    for (size_t i = 0; PyUnicode_Check(scheme) && i < TWS_ARRAY_SIZE(known);
         i++) {
        if (PyUnicode_CompareWithASCIIString(scheme, known[i].name) == 0) {
            *kind = known[i].kind;
            return 0;
        }
    }
    /* Not shown: who takes a whole URL for it shows a password. */
    PyErr_SetString(PyExc_ValueError,
                    "the scheme of a proxy is another one than 'http', "
                    "'https', 'socks5' and 'socks5h'");
    return -1;
}

/* Says no more than what is wrong: it may be a password. */
static int
read_credential(PyObject *object, const char *name, const char **text)
{
    Py_ssize_t length;
    if (object == Py_None) {
        return 0;
    }
    if (!PyUnicode_Check(object)) {
        PyErr_Format(PyExc_TypeError,
                     "the %s of a proxy is %.200s, expected str or None", name,
                     Py_TYPE(object)->tp_name);
        return -1;
    }
    *text = PyUnicode_AsUTF8AndSize(object, &length);
    if (*text == NULL && !PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
        return -1;
    }
    if (*text == NULL || strlen(*text) != (size_t)length) {
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError,
                     "the %s of a proxy has a NUL or a surrogate in it", name);
        return -1;
    }
    return 0;
}

int
tws_destination_read_proxy(PyObject *parts, struct tws_proxy *proxy,
                           char host[TWS_HOST_MAX + 1])
{
    *proxy = (struct tws_proxy){.host = host};
    if (!PyTuple_Check(parts) || PyTuple_GET_SIZE(parts) != 5) {
        PyErr_Format(PyExc_TypeError,
                     "proxy is %.200s, expected None or a tuple (scheme, "
                     "host, port, username, password)",
                     Py_TYPE(parts)->tp_name);
        return -1;
    }
    if (read_scheme(PyTuple_GET_ITEM(parts, 0), &proxy->kind) < 0
        || read_host(PyTuple_GET_ITEM(parts, 1), host) < 0
        || read_port(PyTuple_GET_ITEM(parts, 2), &proxy->port) < 0
        || read_credential(PyTuple_GET_ITEM(parts, 3), "username",
                           &proxy->username)
               < 0) {
        return -1;
    }
    return read_credential(PyTuple_GET_ITEM(parts, 4), "password",
                           &proxy->password);
}
