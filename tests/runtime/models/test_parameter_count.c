/* test_parameter_count.c - the count that a configuration gives is that of its tensors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/weights/checkpoint.h"
#include "tests/support/architecture_fixtures.h"

static void every_architecture_is_counted_as_its_tensors_are(void **state)
{
    (void)state;
    for (int i = 0; architecture_fixture_names[i] != NULL; i++) {
        struct architecture_fixture fixture;
        struct qr_model_config config;
        struct qr_checkpoint *checkpoint = NULL;
        struct qr_error err = {""};

        architecture_fixture_load(architecture_fixture_names[i], &fixture);
        free(fixture.logits);
        if (qr_model_config_load(fixture.dir, &config, &err) != QR_OK ||
            qr_checkpoint_open(fixture.dir, &checkpoint, &err) != QR_OK)
            fail_msg("%s", err.message);
        if (qr_model_config_n_parameters(&config) != qr_checkpoint_n_parameters(checkpoint))
            fail_msg("%s: counted %lld, there are %lld", architecture_fixture_names[i],
                     (long long)qr_model_config_n_parameters(&config),
                     (long long)qr_checkpoint_n_parameters(checkpoint));
        qr_checkpoint_close(checkpoint);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_architecture_is_counted_as_its_tensors_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
