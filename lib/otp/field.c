// SPDX-License-Identifier: MIT OR GPL-2.0
#include "otp/log.h"

#include <string.h>

const struct mote_field *mote_field_find(const struct mote_field *fields, const char *key)
{
	for (; fields && fields->key; fields++) {
		if (!strcmp(fields->key, key))
			return fields;
	}
	return NULL;
}

size_t fields_count(const struct mote_field *fields)
{
	size_t n = 0;

	while (fields && fields[n].key)
		n++;
	return n;
}

static const char *text_of(const struct mote_field *f)
{
	return f->kind == MOTE_FIELD_TEXT ? f->value.text : NULL;
}

size_t fields_size(const struct mote_field *fields)
{
	size_t size = (fields_count(fields) + 1) * sizeof(*fields);

	for (; fields && fields->key; fields++)
		size += strlen(fields->key) + 1 + (text_of(fields) ? strlen(text_of(fields)) + 1 : 0);
	return size;
}

const struct mote_field *fields_copy(void *to, const struct mote_field *fields)
{
	size_t n = fields_count(fields);
	struct mote_field *copy = to;
	char *text = (char *)(copy + n + 1);

	for (size_t i = 0; i < n; i++) {
		copy[i] = fields[i];
		copy[i].key = text;
		text = stpcpy(text, fields[i].key) + 1;
		if (!text_of(&fields[i]))
			continue;
		copy[i].value.text = text;
		text = stpcpy(text, fields[i].value.text) + 1;
	}
	copy[n] = (struct mote_field){ 0 };
	return copy;
}

void fields_merge(struct mote_field *to, const struct mote_field *first, const struct mote_field *then)
{
	struct mote_field *at = to;

	*at = (struct mote_field){ 0 };
	for (int turn = 0; turn < 2; turn++) {
		for (const struct mote_field *f = turn ? then : first; f && f->key; f++) {
			if (mote_field_find(to, f->key))
				continue;
			*at++ = *f;
			*at = (struct mote_field){ 0 };
		}
	}
}
