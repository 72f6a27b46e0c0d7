/*
 * "Did you mean": the nearest of the words that would have been right.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "scenario/lang.h"

#define SPELL_WORD_MAX 40 /* longer words are not misspelt, they are something else */
#define SPELL_NEAR 3      /* edits at most, and fewer for short words */

/* Edits (insert, delete, change, swap of neighbours) between two short words. */
static unsigned edit_distance(const char *a, const char *b)
{
    unsigned row[3][SPELL_WORD_MAX + 1];
    size_t alen = strlen(a);
    size_t blen = strlen(b);

    SIM_ASSERT_LE(alen, SPELL_WORD_MAX);
    SIM_ASSERT_LE(blen, SPELL_WORD_MAX);
    for (size_t j = 0; j <= blen; j++) {
        row[0][j] = (unsigned)j;
    }
    for (size_t i = 1; i <= alen; i++) {
        unsigned *now = row[i % 3];
        const unsigned *last = row[(i - 1) % 3];
        const unsigned *before = row[(i + 1) % 3];

        now[0] = (unsigned)i;
        for (size_t j = 1; j <= blen; j++) {
            unsigned change = last[j - 1] + (a[i - 1] != b[j - 1]);
            unsigned best = MIN(MIN(last[j], now[j - 1]) + 1, change);

            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                best = MIN(best, before[j - 2] + 1);
            }
            now[j] = best;
        }
    }
    return row[alen % 3][blen];
}

void scn_spell_init(struct scn_spell *spell, const char *word)
{
    size_t length = strlen(word);

    spell->word = word;
    spell->best = NULL;
    spell->best_distance = (unsigned)MIN(length / 3 + 1, (size_t)SPELL_NEAR) + 1;
}

void scn_spell_try(struct scn_spell *spell, const char *candidate)
{
    size_t word_length = strlen(spell->word);
    size_t length = strlen(candidate);
    size_t apart = MAX(word_length, length) - MIN(word_length, length);
    unsigned distance;

    if (word_length == 0 || word_length > SPELL_WORD_MAX || length > SPELL_WORD_MAX ||
        apart >= spell->best_distance) {
        return;
    }
    distance = strcasecmp(spell->word, candidate) == 0 ? 1 : edit_distance(spell->word, candidate);
    if (distance < spell->best_distance && (distance == 1 || distance < MAX(word_length, length)) &&
        (word_length > 1 || strcasecmp(spell->word, candidate) == 0)) {
        spell->best_distance = distance;
        spell->best = candidate;
    }
}

const char *scn_spell_hint(const struct scn_spell *spell, char buf[SCN_HINT])
{
    buf[0] = '\0';
    if (spell->best) {
        snprintf(buf, SCN_HINT, " (did you mean '%s'?)", spell->best);
    }
    return buf;
}
