/* gguf_model.h - a Hugging Face model as the GGUF file that a converter would make of it. */
#ifndef QUIRE_TESTS_SUPPORT_GGUF_MODEL_H
#define QUIRE_TESTS_SUPPORT_GGUF_MODEL_H

#include "tests/support/gguf_builder.h"

/* Settings and tensors of the model in `dir`, its numbers as they are, into a zeroed builder.
 * Fails the running test where it cannot. */
void gguf_from_model(const char *dir, struct gguf_builder *gguf);

#endif /* QUIRE_TESTS_SUPPORT_GGUF_MODEL_H */
