/* Fills a queue: takes templates from a queue, and publishes messages that differ from them only in their id.
 *
 *     publisher URL FROM TEMPLATES TO ID FIRST COUNT
 *
 * TEMPLATES messages are taken; COUNT copies of them, by turns, are published. ID ends in twelve digits. Wherever it
 * stands in a template (body, message_id, correlation_id, headers at any depth) they are replaced by the number of each
 * copy, from FIRST on. A message as any client library makes it is so made a hundred thousand times, and the library's
 * own speed does not matter. All are persistent and confirmed.
 */

#define _GNU_SOURCE
#include "link.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIGITS 12
#define WINDOW 4096
#define PLACES 64

struct template {
    amqp_message_t message;
    char *places[PLACES]; /* of the digits, within the message */
    size_t found;
};

static void look_for(struct template *template, const char *id, amqp_bytes_t in) {
    size_t length = strlen(id);
    char *end = (char *)in.bytes + in.len;
    for (char *at = in.bytes; at && (at = memmem(at, end - at, id, length)); at += length) {
        if (template->found == PLACES) die("the id stands in too many places");
        template->places[template->found++] = at + length - DIGITS;
    }
}

static void look_in_table(struct template *template, const char *id, amqp_table_t table);

static void look_in_value(struct template *template, const char *id, amqp_field_value_t value) {
    switch (value.kind) {
        case AMQP_FIELD_KIND_UTF8:
        case AMQP_FIELD_KIND_BYTES: look_for(template, id, value.value.bytes); break;
        case AMQP_FIELD_KIND_TABLE: look_in_table(template, id, value.value.table); break;
        case AMQP_FIELD_KIND_ARRAY:
            for (int index = 0; index < value.value.array.num_entries; index++)
                look_in_value(template, id, value.value.array.entries[index]);
            break;
        default: break;
    }
}

static void look_in_table(struct template *template, const char *id, amqp_table_t table) {
    for (int index = 0; index < table.num_entries; index++) look_in_value(template, id, table.entries[index].value);
}

/* A quorum queue adds a header to what is got from it, which no client sends. */
static void remove_delivery_count(amqp_basic_properties_t *properties) {
    amqp_table_t *headers = &properties->headers;
    int kept = 0;
    if (!(properties->_flags & AMQP_BASIC_HEADERS_FLAG)) return;
    for (int index = 0; index < headers->num_entries; index++) {
        amqp_bytes_t key = headers->entries[index].key;
        if (key.len != strlen("x-delivery-count") || memcmp(key.bytes, "x-delivery-count", key.len))
            headers->entries[kept++] = headers->entries[index];
    }
    headers->num_entries = kept;
    if (!kept) properties->_flags &= ~(amqp_flags_t)AMQP_BASIC_HEADERS_FLAG;
}

/* Takes one message from the queue and finds the id in it. */
static void take(struct template *template, amqp_connection_state_t link, const char *queue, const char *id) {
    amqp_rpc_reply_t got = amqp_basic_get(link, CHANNEL, amqp_cstring_bytes(queue), true);
    check_reply(got, "get");
    if (got.reply.id != AMQP_BASIC_GET_OK_METHOD) die("too few templates in %s", queue);
    check_reply(amqp_read_message(link, CHANNEL, &template->message, 0), "read");

    amqp_basic_properties_t *properties = &template->message.properties;
    remove_delivery_count(properties);
    look_for(template, id, template->message.body);
    if (properties->_flags & AMQP_BASIC_MESSAGE_ID_FLAG) look_for(template, id, properties->message_id);
    if (properties->_flags & AMQP_BASIC_CORRELATION_ID_FLAG) look_for(template, id, properties->correlation_id);
    if (properties->_flags & AMQP_BASIC_HEADERS_FLAG) look_in_table(template, id, properties->headers);
    if (!template->found) die("the id does not stand in the template");
}

static void write_number(struct template *template, uint64_t value) {
    char digits[DIGITS + 1];
    if (snprintf(digits, sizeof digits, "%0*" PRIu64, DIGITS, value) != DIGITS) die("too large a number");
    for (size_t index = 0; index < template->found; index++) memcpy(template->places[index], digits, DIGITS);
}

int main(int argc, char **argv) {
    if (argc != 8) die("usage: publisher URL FROM TEMPLATES TO ID FIRST COUNT");
    const char *from = argv[2], *to = argv[4], *id = argv[5];
    uint64_t kinds = number(argv[3]), first = number(argv[6]), count = number(argv[7]);
    if (strlen(id) < DIGITS) die("the id ends in %d digits", DIGITS);
    struct template *templates = calloc(kinds, sizeof *templates);
    if (!templates) die("no memory");
    amqp_connection_state_t link = link_open(argv[1]);
    for (uint64_t kind = 0; kind < kinds; kind++) take(&templates[kind], link, from, id);

    struct confirms confirms;
    confirms_init(&confirms, WINDOW);
    link_confirm(link);
    while (confirms.confirmed < count) {
        if (confirms.published < count && confirms_room(&confirms)) {
            struct template *template = &templates[confirms.published % kinds];
            write_number(template, first + confirms.published);
            confirms_publish(&confirms, link, amqp_cstring_bytes(to), &template->message.properties,
                             template->message.body);
        } else {
            amqp_frame_t frame;
            amqp_maybe_release_buffers(link);
            check(amqp_simple_wait_frame(link, &frame), "receive");
            confirms_take(&confirms, &frame);
        }
    }
    link_close(link);
    return EXIT_SUCCESS;
}
