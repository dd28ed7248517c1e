/*
 * descriptors.c - see descriptors.h for the contract.
 *
 * A set holds a dozen files and is asked a few times by each client that explores
 * the server, so it is searched rather than indexed.
 */
#include "runtime/server/descriptors.h"

#include <stdbool.h>
#include <string.h>

typedef Google__Protobuf__FileDescriptorProto file_proto;
typedef Google__Protobuf__DescriptorProto message_proto;
typedef Google__Protobuf__EnumDescriptorProto enum_proto;
typedef Google__Protobuf__ServiceDescriptorProto service_proto;

const file_proto *qr_descriptors_find_file(const Google__Protobuf__FileDescriptorSet *set,
                                           const char *name)
{
    for (size_t i = 0; i < set->n_file; i++) {
        if (strcmp(set->file[i]->name, name) == 0)
            return set->file[i];
    }
    return NULL;
}

/*
 * Takes `scope` off the front of `symbol`. NULL: the symbol is not `scope` nor within
 * it; "": it is `scope` itself.
 */
static const char *within(const char *symbol, const char *scope)
{
    size_t length = scope != NULL ? strlen(scope) : 0;

    if (length == 0)
        return symbol;
    if (strncmp(symbol, scope, length) != 0)
        return NULL;
    if (symbol[length] == '\0')
        return symbol + length;
    return symbol[length] == '.' && symbol[length + 1] != '\0' ? symbol + length + 1 : NULL;
}

/* An enum's values are named in the scope that holds the enum. */
static bool enum_defines(const enum_proto *type, const char *name)
{
    if (strcmp(type->name, name) == 0)
        return true;
    for (size_t i = 0; i < type->n_value; i++) {
        if (strcmp(type->value[i]->name, name) == 0)
            return true;
    }
    return false;
}

static bool fields_define(Google__Protobuf__FieldDescriptorProto *const *fields, size_t n_fields,
                          const char *name)
{
    for (size_t i = 0; i < n_fields; i++) {
        if (strcmp(fields[i]->name, name) == 0)
            return true;
    }
    return false;
}

static bool message_defines(const message_proto *type, const char *symbol)
{
    const char *name = within(symbol, type->name);

    if (name == NULL || *name == '\0')
        return name != NULL;
    for (size_t i = 0; i < type->n_nested_type; i++) {
        if (message_defines(type->nested_type[i], name))
            return true;
    }
    for (size_t i = 0; i < type->n_enum_type; i++) {
        if (enum_defines(type->enum_type[i], name))
            return true;
    }
    return fields_define(type->field, type->n_field, name) ||
           fields_define(type->extension, type->n_extension, name);
}

static bool service_defines(const service_proto *service, const char *symbol)
{
    const char *name = within(symbol, service->name);

    if (name == NULL || *name == '\0')
        return name != NULL;
    for (size_t i = 0; i < service->n_method; i++) {
        if (strcmp(service->method[i]->name, name) == 0)
            return true;
    }
    return false;
}

static bool file_defines(const file_proto *file, const char *symbol)
{
    const char *name = within(symbol, file->package);

    if (name == NULL || *name == '\0')
        return false;
    for (size_t i = 0; i < file->n_message_type; i++) {
        if (message_defines(file->message_type[i], name))
            return true;
    }
    for (size_t i = 0; i < file->n_enum_type; i++) {
        if (enum_defines(file->enum_type[i], name))
            return true;
    }
    for (size_t i = 0; i < file->n_service; i++) {
        if (service_defines(file->service[i], name))
            return true;
    }
    return fields_define(file->extension, file->n_extension, name);
}

const file_proto *qr_descriptors_find_symbol(const Google__Protobuf__FileDescriptorSet *set,
                                             const char *symbol)
{
    for (size_t i = 0; i < set->n_file; i++) {
        if (file_defines(set->file[i], symbol))
            return set->file[i];
    }
    return NULL;
}
