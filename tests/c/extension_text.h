/* Parameters of an extension as text, both ways: "a; b=1". */
#ifndef TWS_TESTS_EXTENSION_TEXT_H
#define TWS_TESTS_EXTENSION_TEXT_H

#include "harness.h"
#include "protocol/http_fields.h"

enum { EXTENSION_PARAMS_MAX = 8 };

/* Walks "x; " and what `text` says; returns how many parameters there are.
 * They are borrowed from a static buffer. */
static inline size_t
extension_params(const char *text,
                 struct tws_extension_param params[EXTENSION_PARAMS_MAX])
{
    static char value[1024];
    struct tws_span name;
    struct tws_error err;
    size_t count = 0;
    (void)snprintf(value, sizeof(value), "x%s%s", *text == '\0' ? "" : "; ",
                   text);
    struct tws_extension_walker walker = {
        .rest = {.data = value, .length = strlen(value)}};
    CHECK_INT(tws_extension_next(&walker, &name, &err), TWS_OK);
    while (count < EXTENSION_PARAMS_MAX
           && tws_extension_param_next(&walker, &params[count], &err)
                  == TWS_OK) {
        count++;
    }
    CHECK_INT(walker.params.length, 0);
    return count;
}

/* Static until the next call. */
static inline const char *
extension_text(const struct tws_extension_param *params, size_t count)
{
    static char text[512];
    size_t length = 0;
    text[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        length += (size_t)snprintf(
            text + length, sizeof(text) - length, "%s%.*s%s%.*s",
            i > 0 ? "; " : "", (int)params[i].name.length, params[i].name.data,
            params[i].has_value ? "=" : "", (int)params[i].value.length,
            params[i].value.data);
    }
    return text;
}

#define CHECK_TEXT(text, expected)                                            \
    do {                                                                      \
        const char *check_got = (text);                                       \
        const char *check_want = (expected);                                  \
        if (strcmp(check_got, check_want) != 0) {                             \
            fprintf(stderr, "%s is \"%s\", expected \"%s\"\n", #text,         \
                    check_got, check_want);                                   \
            CHECK(false);                                                     \
        }                                                                     \
    } while (0)

#endif /* TWS_TESTS_EXTENSION_TEXT_H */
