#include "engine/driver.h"

#include <stdlib.h>

enum tws_status
tws_driver_init(struct tws_driver *driver, struct tws_error *err)
{
    *driver = (struct tws_driver){0};
    driver->scratch = malloc(TWS_SCRATCH_SIZE);
    if (driver->scratch == NULL) {
        return tws_error_nomem(err);
    }
    return TWS_OK;
}

void
tws_driver_release(struct tws_driver *driver)
{
    free(driver->scratch);
    tws_buffer_release(&driver->out);
    *driver = (struct tws_driver){0};
}

void
tws_driver_end(struct tws_driver *driver, uint16_t code,
               struct tws_span reason)
{
    struct tws_ending *ending = &driver->ending;
    size_t length = reason.length;
    if (length > sizeof(ending->reason)) {
        length = sizeof(ending->reason);
    }
    *ending = (struct tws_ending){
        .over = true,
        .code = code,
        .reason_length = length,
    };
    if (length > 0) {
        memcpy(ending->reason, reason.data, length);
    }
}
