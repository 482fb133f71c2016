/* A C unit test is a program: TEST(name) functions listed in RUN(). A check
 * that fails prints where and what, and the program ends with status 1.
 * The last line is "N passed, N failed". */
#ifndef TWS_TESTS_HARNESS_H
#define TWS_TESTS_HARNESS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int harness_failures; /* of the test that runs */

#define TEST(name) static void name(void)

#define CHECK(condition)                                                      \
    do {                                                                      \
        if (!(condition)) {                                                   \
            fprintf(stderr, "%s:%d: %s: check failed: %s\n", __FILE__,        \
                    __LINE__, __func__, #condition);                          \
            harness_failures++;                                               \
        }                                                                     \
    } while (0)

#define CHECK_INT(got, expected)                                              \
    do {                                                                      \
        long long harness_got = (long long)(got);                             \
        long long harness_want = (long long)(expected);                       \
        if (harness_got != harness_want) {                                    \
            fprintf(stderr, "%s:%d: %s: %s is %lld, expected %lld\n",         \
                    __FILE__, __LINE__, __func__, #got, harness_got,          \
                    harness_want);                                            \
            harness_failures++;                                               \
        }                                                                     \
    } while (0)

/* Compares `length` bytes at `data` with a string literal. */
#define CHECK_BYTES(data, length, literal)                                    \
    do {                                                                      \
        size_t harness_length = (length);                                     \
        if (harness_length != sizeof(literal) - 1                             \
            || memcmp((data), (literal), harness_length) != 0) {              \
            fprintf(stderr, "%s:%d: %s: %s is not %s but \"%.*s\"\n",         \
                    __FILE__, __LINE__, __func__, #data, #literal,            \
                    (int)harness_length, (const char *)(data));               \
            harness_failures++;                                               \
        }                                                                     \
    } while (0)

/* For loops over every size or seed: 1, or `brief` where $TWS_TESTS_BRIEF is
 * set, as some will do where everything takes fifty times as long. */
static inline unsigned
harness_step(unsigned brief)
{
    return getenv("TWS_TESTS_BRIEF") != NULL ? brief : 1;
}

struct harness_test {
    const char *name;
    void (*run)(void);
};

#define T(name)                                                               \
    {                                                                         \
#name, name                                                           \
    }

#define RUN(...)                                                              \
    int main(void)                                                            \
    {                                                                         \
        const struct harness_test tests[] = {__VA_ARGS__};                    \
        int passed = 0;                                                       \
        int failed = 0;                                                       \
        for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {       \
            harness_failures = 0;                                             \
            tests[i].run();                                                   \
            if (harness_failures == 0) {                                      \
                passed++;                                                     \
            }                                                                 \
            else {                                                            \
                failed++;                                                     \
                fprintf(stderr, "FAILED %s\n", tests[i].name);                \
            }                                                                 \
        }                                                                     \
        printf("%d passed, %d failed\n", passed, failed);                     \
        return failed == 0 ? 0 : 1;                                           \
    }

#endif /* TWS_TESTS_HARNESS_H */
