/* Compiled in here with calls that a test can make fail. */
#include "loop/condition.h"

#include "loop/timers.h"

#include "harness.h"

#include <errno.h>

static int attributes_error; /* what the call fails with, or 0 */
static int clock_error;
static int condition_error;

static int
init_attributes(pthread_condattr_t *attributes)
{
    return attributes_error != 0 ? attributes_error
                                 : pthread_condattr_init(attributes);
}

static int
set_clock(pthread_condattr_t *attributes, clockid_t clock)
{
    return clock_error != 0 ? clock_error
                            : pthread_condattr_setclock(attributes, clock);
}

static int
init_condition(pthread_cond_t *condition, const pthread_condattr_t *attributes)
{
    return condition_error != 0 ? condition_error
                                : pthread_cond_init(condition, attributes);
}

#define pthread_condattr_init init_attributes
#define pthread_condattr_setclock set_clock
#define pthread_cond_init init_condition
#include "../../csrc/loop/condition.c"
#undef pthread_condattr_init
#undef pthread_condattr_setclock
#undef pthread_cond_init

#define MILLISECOND (SECOND / 1000)

/* One thread waits, another one looks at it. */
struct scene {
    pthread_mutex_t mutex;
    pthread_cond_t condition;
    uint64_t deadline;
    bool waits; /* as is all that follows: guarded by the mutex */
    bool go;
    bool woken; /* what the wait said */
};

static void
scene_init(struct scene *scene, uint64_t deadline)
{
    struct tws_error err;
    *scene = (struct scene){.deadline = deadline};
    CHECK_INT(pthread_mutex_init(&scene->mutex, NULL), 0);
    CHECK_INT(tws_condition_init(&scene->condition, &err), TWS_OK);
}

static void
scene_fini(struct scene *scene)
{
    CHECK_INT(pthread_cond_destroy(&scene->condition), 0);
    CHECK_INT(pthread_mutex_destroy(&scene->mutex), 0);
}

/* Alone, in a scene of its own. */
static bool
wait_alone(uint64_t deadline)
{
    struct scene scene;
    scene_init(&scene, deadline);
    pthread_mutex_lock(&scene.mutex);
    bool woken = tws_condition_wait(&scene.condition, &scene.mutex, deadline);
    /* It is held again. */
    CHECK_INT(pthread_mutex_trylock(&scene.mutex), EBUSY);
    pthread_mutex_unlock(&scene.mutex);
    scene_fini(&scene);
    return woken;
}

TEST(a_wait_ends_at_its_deadline_and_no_sooner)
{
    for (unsigned i = 0; i < 20; i++) {
        uint64_t deadline = tws_clock_now() + i * MILLISECOND / 2;
        CHECK(!wait_alone(deadline));
        uint64_t late = tws_clock_now() - deadline;
        CHECK(late < 5 * SECOND); /* and no less than zero */
    }
}

TEST(a_deadline_in_the_past_is_over)
{
    uint64_t before = tws_clock_now();
    CHECK(!wait_alone(0));
    CHECK(!wait_alone(1));
    CHECK(!wait_alone(before - 1));
    CHECK(tws_clock_now() - before < 5 * SECOND);
}

static void *
wait_to_go(void *argument)
{
    struct scene *scene = argument;
    pthread_mutex_lock(&scene->mutex);
    scene->waits = true;
    scene->woken = true;
    while (!scene->go && scene->woken) {
        scene->woken = tws_condition_wait(&scene->condition, &scene->mutex,
                                          scene->deadline);
    }
    pthread_mutex_unlock(&scene->mutex);
    return NULL;
}

static void
wake_before(uint64_t deadline)
{
    struct timespec moment = {.tv_nsec = (long)MILLISECOND};
    struct scene scene;
    pthread_t thread;
    bool waits = false;
    scene_init(&scene, deadline);
    CHECK_INT(pthread_create(&thread, NULL, wait_to_go, &scene), 0);
    while (!waits) {
        /* The mutex is given up while the other one waits. */
        pthread_mutex_lock(&scene.mutex);
        waits = scene.waits;
        pthread_mutex_unlock(&scene.mutex);
        nanosleep(&moment, NULL);
    }
    nanosleep(&moment, NULL);
    pthread_mutex_lock(&scene.mutex);
    scene.go = true;
    CHECK_INT(pthread_cond_signal(&scene.condition), 0);
    pthread_mutex_unlock(&scene.mutex);
    CHECK_INT(pthread_join(thread, NULL), 0);
    CHECK(scene.woken);
    scene_fini(&scene);
}

TEST(a_signal_ends_a_wait)
{
    wake_before(tws_clock_now() + 60 * SECOND);
}

TEST(a_wait_may_have_no_limit)
{
    wake_before(UINT64_MAX);
}

TEST(a_deadline_far_away_is_one_still)
{
    wake_before(UINT64_MAX - 1);
}

static void
check_failure(int sys_errno, const char *call)
{
    struct tws_error err = {0};
    pthread_cond_t condition;
    CHECK_INT(tws_condition_init(&condition, &err), TWS_OS);
    CHECK_INT(err.status, TWS_OS);
    CHECK_INT(err.sys_errno, sys_errno);
    CHECK(strcmp(err.reason, call) == 0);
}

TEST(a_failure_is_told)
{
    attributes_error = ENOMEM;
    check_failure(ENOMEM, "pthread_condattr_init");
    attributes_error = 0;
    clock_error = EINVAL;
    check_failure(EINVAL, "pthread_cond_init");
    clock_error = 0;
    condition_error = EAGAIN;
    check_failure(EAGAIN, "pthread_cond_init");
    condition_error = 0;
}

RUN(T(a_wait_ends_at_its_deadline_and_no_sooner),
    T(a_deadline_in_the_past_is_over), T(a_signal_ends_a_wait),
    T(a_wait_may_have_no_limit), T(a_deadline_far_away_is_one_still),
    T(a_failure_is_told))
