/* What this build is made of and runs on, for bug reports. */
#ifndef TWS_PYTHON_BUILD_FACTS_H
#define TWS_PYTHON_BUILD_FACTS_H

#include "python/state.h"

/* Docstring and function of the module: build_facts(). */
extern const char tws_build_facts_doc[];
PyObject *tws_build_facts(PyObject *module, PyObject *unused);

#endif /* TWS_PYTHON_BUILD_FACTS_H */
