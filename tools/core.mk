# Builds the core (all of csrc but csrc/python), its C tests and its fuzzers,
# without Python. `make ctest` and others call it with:
#
#   CC=...        the compiler
#   SANITIZE=...  address,undefined or thread; empty: none;
#                 coverage: nothing is looked for, gcov counts what runs
#
# Each pair has its own directory under build/core.

.SUFFIXES:
.DELETE_ON_ERROR:
.SECONDARY:

# The core must compile without Python's headers.
unexport CPATH C_INCLUDE_PATH

comma = ,
SANITIZE ?= address,undefined
BUILD = build/core/$(notdir $(firstword $(CC)))$(addprefix -,$(subst $(comma),-,$(SANITIZE)))

SOURCES := $(sort $(foreach layer,protocol net loop engine,\
                    $(wildcard csrc/$(layer)/*.c)))
HEADERS := $(sort $(foreach layer,protocol net loop engine,\
                    $(wildcard csrc/$(layer)/*.h)))
C_TESTS := $(sort $(wildcard tests/c/test_*.c))
FUZZERS := $(sort $(wildcard fuzz/fuzz_*.c))

PKG_CONFIG ?= pkg-config
LIB_CFLAGS := $(shell $(PKG_CONFIG) --cflags openssl zlib 2>/dev/null)
LIB_LDLIBS := $(shell $(PKG_CONFIG) --libs openssl zlib 2>/dev/null || \
                      echo -lssl -lcrypto -lz)

# Threads count together, and nothing is moved from the line it stands on.
COUNTING = --coverage -fprofile-update=atomic -O0
INSTRUMENT = $(if $(filter coverage,$(SANITIZE)),$(COUNTING),\
  $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=all))
FLAGS = -std=c11 -D_GNU_SOURCE -Icsrc -Itests/c $(LIB_CFLAGS) \
        $(shell cat tools/warnings.txt) -Werror \
        -O1 -g -fno-omit-frame-pointer $(INSTRUMENT) $(CFLAGS)

OBJECTS = $(SOURCES:%.c=$(BUILD)/%.o)
LIBRARY = $(BUILD)/libcore.a
TESTS = $(C_TESTS:tests/c/%.c=$(BUILD)/%)
CHECKED_HEADERS = $(HEADERS:%.h=$(BUILD)/%.alone)

.PHONY: tests fuzzers names
tests: $(CHECKED_HEADERS) $(TESTS)
fuzzers: $(FUZZERS:fuzz/%.c=$(BUILD)/%)
names:
	@echo $(TESTS)

$(BUILD)/%.o: %.c tools/core.mk tools/warnings.txt
	@mkdir -p $(@D)
	$(CC) $(FLAGS) -MMD -MP -c $< -o $@

# Sanitizers make the compilation of a test three times as long, if it is to
# be optimised; it is worth it only where valgrind will run it.
$(BUILD)/tests/%.o: FLAGS += $(if $(SANITIZE),-O0)

# A header includes what it needs: it compiles alone.
$(BUILD)/%.alone: %.h tools/core.mk tools/warnings.txt
	@mkdir -p $(@D)
	@printf '#include "%s"\n' '$(<:csrc/%=%)' | \
	  $(CC) $(FLAGS) -MMD -MP -MT $@ -MF $@.d -fsyntax-only -x c -
	@touch $@

# Made anew, so that objects of removed files do not stay in it.
$(LIBRARY): $(OBJECTS)
	@rm -f $@
	@$(AR) crs $@ $(OBJECTS)

$(BUILD)/test_%: $(BUILD)/tests/c/test_%.o $(LIBRARY)
	$(CC) $(FLAGS) $< $(LIBRARY) $(LIB_LDLIBS) -lpthread -o $@

$(BUILD)/fuzz_%: $(BUILD)/fuzz/fuzz_%.o $(LIBRARY)
	$(CC) $(FLAGS) -fsanitize=fuzzer $< $(LIBRARY) $(LIB_LDLIBS) \
	  -lpthread -o $@

-include $(OBJECTS:.o=.d) $(CHECKED_HEADERS:=.d)
-include $(C_TESTS:%.c=$(BUILD)/%.d) $(FUZZERS:%.c=$(BUILD)/%.d)
