/* A kernel module. */
extern int hz;
struct flow { int id; struct flow *next; };
struct flow flows[3] = { { 1, &flows[1] }, { 2, &flows[2] }, { 3 } };
static const char names[4][8] = { "a", "b", "c", "d" };
int flow_table[512];

int flow_lookup(int id)
{
	for (struct flow *flow = flows; flow; flow = flow->next)
		if (flow->id == id)
			return names[id & 3][0] + hz;
	return flow_table[id & 511];
}

/* Of what is not there. */
void flow_unlink(struct flow *flow)
{
	flow->next = flow->next->next;
}
