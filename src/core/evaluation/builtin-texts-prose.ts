/** Stories, explanations, letters and reports. */
export const PROSE: readonly string[] = [
  `The ferry left at six, before the fog had made up its mind. Marta stood at the rail with both hands around a paper cup and watched the harbour turn into a row of lights, then into a rumour of lights, and then into nothing. She had told nobody that she was leaving. Her brother would find the note under the sugar bowl, because he always took sugar, and her mother would find out from her brother, because she always asked.

Halfway across, the engine changed its voice. A boy in a yellow coat asked her whether they were lost. "No," she said, "we are only slow." He considered this and seemed to find it worse. Then a bell rang somewhere ahead of them, once and again, and the captain answered with the horn, and the boy laughed, because it had sounded as if the sea itself had said good morning.`,

  `Bread rises because yeast eats sugar and gives off gas. Flour holds starch, and enzymes in the flour cut the starch into sugars that the yeast can use. The gas, carbon dioxide, would escape if nothing held it back; but kneading lines up two proteins of wheat into gluten, a net that stretches around each bubble. Warmth makes the yeast work faster, and salt slows it down. In the oven three things happen in order: the bubbles swell in the heat, the yeast dies at about fifty-five degrees, and the starch sets, so that the loaf keeps the shape it has reached. The crust browns last of all, when sugars and proteins on the dry surface react with each other. A loaf that was shaped too late has large holes; one that was baked too early is dense, because the net was never filled.`,

  `Dear Ms Okafor,

thank you for your letter of 3 March. You asked why the reading room will close an hour earlier from April. The reason is simple, and I would rather give it to you plainly: we have one person fewer than last year, and the room must not be open without somebody at the desk.

We looked at other ways. Opening later in the morning would have hit the schools, whose classes come at nine. Closing on Wednesdays would have saved more than we need. The last hour of the evening had, on average, four visitors.

I know that you were one of the four. If you let me know in advance which volumes you need, we will keep them for you at the front desk until noon on Saturday.

With kind regards,
Henrik Dahl
City Library`,

  `A lighthouse does not need to be tall; it needs to be seen from far enough away. The curve of the earth decides how far that is. From a lamp thirty metres above the water a sailor whose eyes are three metres above it can see the light at about twenty-six kilometres, if the night is clear. Doubling the height of the tower does not double the distance, because the distance grows with the square root. That is why builders preferred a low tower on a high cliff to a high tower on a beach.

Each light also has a rhythm of its own. One flashes twice every ten seconds, its neighbour shows a long red flash, and the chart says which is which. A captain with a watch and a chart could tell where he was without seeing anything of the land.`,

  `The council voted on Tuesday to keep the old swimming pool open for at least two more years. Nine members were in favour, four against, and two did not vote. Repairs to the roof will cost 1.3 million, of which the state pays almost half. The rest comes from a fund that had been set aside for a new car park near the station.

"People can walk to the station," said Lena Petrov, who had collected more than six thousand signatures. "They cannot walk to the next pool, because it is thirty kilometres away." Members who voted against the plan said that the building loses money every month and that the pipes are older than the roof. Work is to begin in May, when the school season ends, and should be finished by the middle of September.`,

  `My grandfather repaired clocks, and he talked to them while he did it. He did not talk about clocks. He told them about the weather, about the price of coal, about a neighbour who had painted his door green. When I asked him why, he said that a clock is a machine for waiting, and that nobody should have to wait in silence.

He kept the ones that could not be repaired on a shelf behind the stove. Each of them showed another hour, and at some moment of every day one of them was right. "You see," he would say, pointing at it with his screwdriver, "it has not stopped. It is just very patient." When he died we wound all of them that could still be wound. For a week the house was full of small disagreements, and then they fell silent one by one.`,

  `Tides come from the difference of a force, not from the force itself. The moon pulls on the near side of the earth a little more strongly than on its centre, and on the centre a little more strongly than on the far side. Seen from the centre, water is therefore drawn out on both sides, and a place on the coast passes through two high waters in a little more than a day. The sun does the same with slightly less than half of the effect, although its pull is far stronger, because it is so far away that its pull hardly differs from one side of the earth to the other. When sun and moon stand in one line, at new and full moon, the two effects add up to a spring tide. At half moon they work against each other.`,

  `The market opens at five, when the square is still blue. First come the vans with fish, then the potatoes, then everything that can be heard: crates, radios, the man who sells brushes and sings. By seven the lanes between the stalls are as narrow as a thought. An old woman in a fur hat buys exactly one lemon every Thursday; she weighs several in her hand, closes her eyes, and always takes the first one she touched.

At noon it begins to go the other way. Prices fall by half and then by half again. Somebody gives away a box of soft pears to whoever is quick. At two the water cart comes, and at three there is only a wet square with a few leaves on it, and pigeons who behave as if they had been invited.`,

  `To measure is to compare. A metre was once a bar of metal in a cellar near Paris, and every other metre in the world was a copy of it, or a copy of a copy. That worked well enough until people noticed that the copies had begun to disagree by tiny amounts, and nobody could say which of them had changed. Today a metre is the distance that light travels in a certain fraction of a second, and a second is a certain number of swings of an atom of caesium. No bar can be lost, stolen or dropped. Anyone with a good laboratory can make a metre, and all of them will be the same. The price of this certainty is that almost nobody has ever seen the thing by which everything is measured.`,

  `Snow had closed the pass, so the bus stayed where it was, in front of an inn with a painted sheep on its wall. The driver switched off the engine. In the new quiet one could hear each of the eleven passengers decide to be polite about it.

There were nine beds. The landlady counted heads, counted again, and put soup on the table as if soup were a kind of arithmetic. A student played chess against a dentist. Two sisters who had not spoken since the funeral were given the same room and came down to breakfast arguing about a curtain, which was a beginning. When the plough arrived at ten, with its orange light turning, nobody got up at once. The driver finished his coffee. "Well," he said at last, to the window, "I suppose that we are late for something."`,

  `Moss has no roots. It drinks through its leaves, which are one cell thick, and when there is nothing to drink it dries out completely and waits. A patch that has lain brown on a roof for years can turn green within minutes of rain. It can do this because its cells pack themselves before they dry: sugars take the place of water between the parts of the cell and keep them from sticking together, as paper does between plates.

Mosses were among the first plants on land, some four hundred and fifty million years ago, and they have never grown much taller than a finger. Without vessels to lift water they cannot. What they lack in height they make up for in numbers: the bogs of the north, built of dead moss, hold more carbon than all the forests of the world.`,

  `Report on the trial run of the new sorting line, week 22. The line ran for 38 of 40 planned hours. Two stops were caused by torn labels, one by an operator who pressed the emergency button because a glove had been left on the belt. On average 1,140 parcels an hour were sorted, against 900 on the old line; the target is 1,300. Of 43,320 parcels, 61 went to the wrong chute. Fifty-two of these had a handwritten address.

We recommend three changes before the second line is ordered. First, the camera should be mounted twenty centimetres higher, where the light does not reflect. Second, labels should be read from two sides. Third, the break of the morning shift should be moved by a quarter of an hour, because the largest lorry of the day arrives in the middle of it.`,

  `There is a kind of politeness that consists in not finishing one's sentences. It leaves a door open. The other person may complete the thought, or change it, or let it stand there like a chair that nobody has to sit on. People who are sure of themselves find it tiring. They would like to know what is meant, and by when.

I have come to think that both are right, but at different hours of the day. In the morning, when there is work to do, a sentence should have an end, and preferably a verb. In the evening, among friends, it is enough if it has a direction. The trouble begins at lunch, when some of us are still at work and others have already gone home in their heads, and one cannot tell from the outside who is who.`,

  `On the third day they found the river, or rather the bed where a river ought to have been. It was as wide as a street and full of round white stones, and along its middle ran a thread of water that a child could have stepped over. Ines took out the map. The map showed a blue line, firm and confident, with a bridge across it.

"It was drawn in spring," said Tomas.

They followed the stones downhill all afternoon. Towards evening the thread became a ribbon, and the ribbon found a second one, and when they made camp they could hear it talking to itself in the dark. In the morning there was frost on the tent and a heron standing in the shallows, as grey and as upright as a tax inspector. The bridge was there as well. It had been built for the other river, the one on the map.`,
];
