/* cuda_engine.h - an engine on the CUDA device that tests run on (cuda_platform.h). */
#ifndef QUIRE_TESTS_SUPPORT_CUDA_ENGINE_H
#define QUIRE_TESTS_SUPPORT_CUDA_ENGINE_H

#include "runtime/engine/engine.h"

/* Those of qr_run_config (engine_runs.h), small enough for the emulator. */
struct qr_engine_config qr_run_cuda_config(const char *model_path);

#endif /* QUIRE_TESTS_SUPPORT_CUDA_ENGINE_H */
