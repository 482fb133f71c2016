#include "python/deflate_type.h"

static inline DeflateObject *
cast(PyObject *self)
{
    return (DeflateObject *)self;
}

/* Life ------------------------------------------------------------------- */

static DeflateObject *
allocate(PyTypeObject *type)
{
    DeflateObject *self = (DeflateObject *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->lockable = pthread_mutex_init(&self->receiving, NULL) == 0;
    if (!self->lockable) {
        PyErr_NoMemory();
        Py_DECREF(self);
        return NULL;
    }
    self->state = tws_state_of_type(type);
    if (self->state == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    self->per_frame =
        PyType_IsSubtype(type, self->state->deflate_frame_type) != 0;
    return self;
}

/* The arguments are for __init__(), which a subclass may have its own of. */
static PyObject *
deflate_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
            PyObject *Py_UNUSED(kwargs))
{
    DeflateObject *self = allocate(type);
    if (self == NULL) {
        return NULL;
    }
    self->out = (struct tws_deflate_settings){
        .window_bits = TWS_DEFLATE_WINDOW_BITS,
        .mem_level = TWS_DEFLATE_MEM_LEVEL,
        .level = TWS_DEFLATE_LEVEL,
    };
    self->threshold = TWS_DEFLATE_THRESHOLD;
    self->max_size = TWS_MESSAGE_LIMITS_DEFAULT.size;
    self->pool = tws_deflate_pool_new();
    if (self->pool == NULL) {
        PyErr_NoMemory();
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static int
deflate_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(cast(self)->dict);
    return 0;
}

static int
deflate_clear(PyObject *self)
{
    Py_CLEAR(cast(self)->dict);
    return 0;
}

static void
deflate_dealloc(PyObject *op)
{
    DeflateObject *self = cast(op);
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    (void)deflate_clear(op);
    tws_compression_free(self->compression);
    tws_deflate_pool_release(self->pool);
    if (self->lockable) {
        pthread_mutex_destroy(&self->receiving);
    }
    type->tp_free(op);
    Py_DECREF(type);
}

/* Copying ---------------------------------------------------------------- */

/* A copy of a dict: a flat one, or where there is a memo as copy.deepcopy()
 * makes it. */
static PyObject *
copy_dict(PyObject *dict, PyObject *memo)
{
    if (memo == NULL) {
        return PyDict_Copy(dict);
    }
    PyObject *module = PyImport_ImportModule("copy");
    PyObject *result = module == NULL ? NULL
                                      : PyObject_CallMethod(module, "deepcopy",
                                                            "OO", dict, memo);
    Py_XDECREF(module);
    if (result != NULL && !PyDict_Check(result)) {
        PyErr_SetString(PyExc_TypeError, "copy of a dict is no dict");
        Py_CLEAR(result);
    }
    return result;
}

/* The values of a subclass's __slots__. */
static int
copy_slots(PyObject *self, PyObject *copy, PyObject *memo)
{
    int result = -1;
    PyObject *slots = NULL;
    PyObject *name;
    PyObject *value;
    Py_ssize_t at = 0;
    PyObject *state = PyObject_CallMethod((PyObject *)&PyBaseObject_Type,
                                          "__getstate__", "O", self);
    if (state == NULL) {
        return -1;
    }
    /* (attributes, slots) where there are slots. */
    if (PyTuple_Check(state) && PyTuple_GET_SIZE(state) == 2
        && PyDict_Check(PyTuple_GET_ITEM(state, 1))) {
        slots = copy_dict(PyTuple_GET_ITEM(state, 1), memo);
        if (slots == NULL) {
            goto done;
        }
        while (PyDict_Next(slots, &at, &name, &value) != 0) {
            if (PyObject_SetAttr(copy, name, value) < 0) {
                goto done;
            }
        }
    }
    result = 0;
done:
    Py_XDECREF(slots);
    Py_DECREF(state);
    return result;
}

static int
copy_attributes(PyObject *self, PyObject *copy, PyObject *memo)
{
    if (cast(self)->dict != NULL) {
        PyObject *dict = copy_dict(cast(self)->dict, memo);
        if (dict == NULL) {
            return -1;
        }
        /* What is copied deeply may have met the copy, and changed it. */
        PyObject *met = cast(copy)->dict;
        int result = met == NULL ? 0 : PyDict_Update(met, dict);
        if (met == NULL) {
            cast(copy)->dict = Py_NewRef(dict);
        }
        Py_DECREF(dict);
        if (result < 0) {
            return -1;
        }
    }
    return copy_slots(self, copy, memo);
}

static DeflateObject *
copy_settings(const DeflateObject *self)
{
    DeflateObject *copy = allocate(Py_TYPE(self));
    if (copy == NULL) {
        return NULL;
    }
    copy->pool = tws_deflate_pool_retain(self->pool);
    copy->max_size = self->max_size;
    copy->made = self->made;
    copy->out = self->out;
    copy->threshold = self->threshold;
    copy->shared = self->shared;
    copy->asked = self->asked;
    copy->asked_of_frames = self->asked_of_frames;
    return copy;
}

PyDoc_STRVAR(copy_doc,
             "__copy__($self, /)\n"
             "--\n"
             "\n"
             "A template with the same settings, which shares the pool.");

static PyObject *
deflate_copy(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    DeflateObject *copy = copy_settings(cast(op));
    if (copy != NULL && copy_attributes(op, (PyObject *)copy, NULL) < 0) {
        Py_CLEAR(copy);
    }
    return (PyObject *)copy;
}

PyDoc_STRVAR(deepcopy_doc,
             "__deepcopy__($self, memo, /)\n"
             "--\n"
             "\n"
             "As __copy__(); attributes of a subclass are copied deeply.");

static PyObject *
deflate_deepcopy(PyObject *op, PyObject *memo)
{
    DeflateObject *copy = copy_settings(cast(op));
    PyObject *key = PyLong_FromVoidPtr(op);
    /* An attribute may refer to this one. */
    if (copy == NULL || key == NULL
        || PyObject_SetItem(memo, key, (PyObject *)copy) < 0
        || copy_attributes(op, (PyObject *)copy, memo) < 0) {
        Py_CLEAR(copy);
    }
    Py_XDECREF(key);
    return (PyObject *)copy;
}

PyDoc_STRVAR(reduce_doc, "__reduce__($self, /)\n"
                         "--\n"
                         "\n"
                         "Raises TypeError: it can't be pickled.");

static PyObject *
deflate_reduce(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyErr_Format(PyExc_TypeError,
                        "cannot pickle '%.200s' object: pickle the arguments "
                        "it is made with, and make it of them",
                        Py_TYPE(op)->tp_name);
}

/* Agreeing --------------------------------------------------------------- */

int
tws_deflate_agree(DeflateObject *self, enum tws_role role,
                  const struct tws_compression_terms *terms)
{
    self->compression = tws_compression_new(terms, self->pool);
    if (self->compression == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    self->terms = *terms;
    self->role = (uint8_t)role;
    self->agreed = true;
    return 0;
}

struct tws_compression *
tws_deflate_agreed(struct tws_state *state, PyObject *extension,
                   enum tws_role role)
{
    PyTypeObject *type = Py_TYPE(extension);
    if (type != state->deflate_message_type
        && type != state->deflate_frame_type
        && type != state->webkit_deflate_frame_type) {
        return NULL;
    }
    DeflateObject *self = cast(extension);
    if (!self->agreed || self->role != role) {
        return NULL;
    }
    struct tws_compression *compression =
        tws_compression_new(&self->terms, self->pool);
    if (compression == NULL) {
        PyErr_NoMemory();
    }
    return compression;
}

void
tws_deflate_set_max_size(struct tws_state *state, PyObject *extension,
                         uint64_t max_size)
{
    if (PyObject_TypeCheck(extension, state->deflate_type)) {
        cast(extension)->max_size = max_size;
    }
}

void
tws_deflate_set_compress(struct tws_state *state, PyObject *extension,
                         enum tws_compress compress)
{
    if (PyObject_TypeCheck(extension, state->deflate_type)) {
        cast(extension)->compress = (uint8_t)compress;
    }
}

void
tws_deflate_forget_sent(struct tws_state *state, PyObject *extension)
{
    struct tws_compression *compression =
        PyObject_TypeCheck(extension, state->deflate_type)
            ? cast(extension)->compression
            : NULL;
    if (compression != NULL) {
        Py_BEGIN_ALLOW_THREADS
        pthread_mutex_lock(&compression->lock);
        tws_compression_forget_sent(compression);
        pthread_mutex_unlock(&compression->lock);
        Py_END_ALLOW_THREADS
    }
}

/* Types ------------------------------------------------------------------ */

static PyMethodDef deflate_methods[] = {
    {"offer", tws_deflate_offer, METH_NOARGS, tws_deflate_offer_doc},
    {"negotiate", tws_deflate_negotiate, METH_O, tws_deflate_negotiate_doc},
    {"accept", tws_deflate_accept, METH_O, tws_deflate_accept_doc},
    {"onsend", tws_deflate_onsend, METH_O, tws_deflate_onsend_doc},
    {"onrecv", tws_deflate_onrecv, METH_O, tws_deflate_onrecv_doc},
    {"__copy__", deflate_copy, METH_NOARGS, copy_doc},
    {"__deepcopy__", deflate_deepcopy, METH_O, deepcopy_doc},
    {"__reduce__", deflate_reduce, METH_NOARGS, reduce_doc},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(deflate_doc, "What DeflateMessage and DeflateFrame share.");

static PyType_Slot deflate_slots[] = {
    {Py_tp_doc, (void *)(uintptr_t)deflate_doc},
    {Py_tp_new, deflate_new},
    {Py_tp_dealloc, deflate_dealloc},
    {Py_tp_traverse, deflate_traverse},
    {Py_tp_clear, deflate_clear},
    {Py_tp_methods, deflate_methods},
    {Py_tp_members, tws_deflate_members},
    {Py_tp_getset, tws_deflate_getset},
    {0, NULL},
};

/* Not immutable: a type can't be with a base from Python, which is not. */
enum {
    FLAGS = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
};

PyType_Spec tws_deflate_spec = {
    .name = "twspy._twspy._Deflate",
    .basicsize = sizeof(DeflateObject),
    .flags = FLAGS,
    .slots = deflate_slots,
};

static PyType_Slot message_slots[] = {
    {Py_tp_doc, (void *)(uintptr_t)tws_deflate_message_doc},
    {Py_tp_init, tws_deflate_message_init},
    {Py_tp_repr, tws_deflate_message_repr},
    {Py_tp_dealloc, deflate_dealloc},
    {Py_tp_traverse, deflate_traverse},
    {Py_tp_clear, deflate_clear},
    {Py_tp_members, tws_deflate_message_members},
    {Py_tp_getset, tws_deflate_message_getset},
    {0, NULL},
};

PyType_Spec tws_deflate_message_spec = {
    .name = "twspy.DeflateMessage",
    .basicsize = sizeof(DeflateObject),
    .flags = FLAGS,
    .slots = message_slots,
};

static PyType_Slot frame_slots[] = {
    {Py_tp_doc, (void *)(uintptr_t)tws_deflate_frame_doc},
    {Py_tp_init, tws_deflate_frame_init},
    {Py_tp_repr, tws_deflate_frame_repr},
    {Py_tp_dealloc, deflate_dealloc},
    {Py_tp_traverse, deflate_traverse},
    {Py_tp_clear, deflate_clear},
    {Py_tp_getset, tws_deflate_frame_getset},
    {0, NULL},
};

PyType_Spec tws_deflate_frame_spec = {
    .name = "twspy.DeflateFrame",
    .basicsize = sizeof(DeflateObject),
    .flags = FLAGS,
    .slots = frame_slots,
};

static PyType_Slot webkit_slots[] = {
    {Py_tp_doc, (void *)(uintptr_t)tws_webkit_deflate_frame_doc},
    {Py_tp_dealloc, deflate_dealloc},
    {Py_tp_traverse, deflate_traverse},
    {Py_tp_clear, deflate_clear},
    {0, NULL},
};

PyType_Spec tws_webkit_deflate_frame_spec = {
    .name = "twspy.WebkitDeflateFrame",
    .basicsize = sizeof(DeflateObject),
    .flags = FLAGS,
    .slots = webkit_slots,
};

int
tws_deflate_check_base(const struct tws_state *state)
{
    PyTypeObject *base = (PyTypeObject *)state->Extension;
    if (PyType_Check(state->Extension)
        && base->tp_basicsize == PyBaseObject_Type.tp_basicsize
        && base->tp_dictoffset == 0) {
        return 0;
    }
    PyErr_SetString(PyExc_SystemError,
                    "twspy.extensions.Extension must be a class with empty "
                    "__slots__, as types in C derive from it");
    return -1;
}

/* Sets an attribute of the class itself; steals `value`. */
static int
set_attribute(PyTypeObject *type, const char *name, PyObject *value)
{
    int result = value == NULL
                     ? -1
                     : PyObject_SetAttrString((PyObject *)type, name, value);
    Py_XDECREF(value);
    return result;
}

int
tws_deflate_types_finish(struct tws_state *state)
{
    PyTypeObject *message = state->deflate_message_type;
    PyTypeObject *frame = state->deflate_frame_type;
    PyTypeObject *webkit = state->webkit_deflate_frame_type;
    const char *name = TWS_PERMESSAGE_DEFLATE.data;
    const char *newer = TWS_DEFLATE_FRAME.data;
    const char *older = TWS_WEBKIT_DEFLATE_FRAME.data;
    if (set_attribute(state->deflate_type, "rsv1", Py_NewRef(Py_True)) < 0
        || set_attribute(message, "name", PyUnicode_FromString(name)) < 0
        || set_attribute(message, "names", Py_BuildValue("(s)", name)) < 0
        || set_attribute(message, "before_fragmentation", Py_NewRef(Py_True))
               < 0
        || set_attribute(frame, "name", PyUnicode_FromString(newer)) < 0
        || set_attribute(frame, "names", Py_BuildValue("(ss)", newer, older))
               < 0
        || set_attribute(webkit, "name", PyUnicode_FromString(older)) < 0
        || set_attribute(webkit, "names", Py_BuildValue("(s)", older)) < 0) {
        return -1;
    }
    return 0;
}
