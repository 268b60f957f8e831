/** Texts in languages other than English. */
export const LANGUAGES: readonly string[] = [
  `Als der Zug endlich hielt, war der Bahnhof leer bis auf einen Mann, der die Uhr abwischte. „Sie geht vor“, sagte er, ohne sich umzudrehen. „Seit Jahren. Die Leute mögen es so, dann kommen sie nie zu spät.“ Anna stellte ihren Koffer ab und fragte nach dem Weg zum Gasthaus. Er zeigte mit dem Lappen über die Gleise: immer geradeaus, bis man die Mühle hört, dann links. Man könne es nicht verfehlen, und wenn doch, dann sei man eben am Fluss, und das sei auch schön. Unterwegs begann es zu schneien, große, langsame Flocken, die sich Zeit ließen. Die Mühle hörte sie tatsächlich, lange bevor sie etwas sah. Im Gasthaus brannte Licht, und jemand hatte ein Schild an die Tür gehängt: „Bitte fest drücken, sie klemmt.“`,

  `Pourquoi le ciel est-il bleu ? La lumière du soleil paraît blanche, mais elle contient toutes les couleurs. En traversant l'air, elle rencontre des molécules bien plus petites que sa longueur d'onde, et celles-ci dévient la lumière bleue beaucoup plus fortement que la rouge. Où que l'on regarde, on reçoit donc un peu de cette lumière bleue qui a changé de direction. Le soir, les rayons parcourent un chemin plus long à travers l'atmosphère ; le bleu s'est perdu en route, et il ne reste que l'orange et le rouge. On pourrait objecter que le violet est dévié encore davantage. C'est vrai, mais le soleil en émet moins, l'air en absorbe une partie, et nos yeux y sont peu sensibles. Vu de la Lune, où il n'y a pas d'air, le ciel est noir même en plein jour.`,

  `—¿Has cerrado la ventana? —preguntó la abuela desde la cocina.
—Sí, abuela.
—¿Y la del pasillo?
El niño no contestó. Se oyeron sus pasos, un golpe seco y luego otra vez los pasos.
—También.
Afuera el viento empujaba las hojas contra la puerta, como si quisieran entrar todas a la vez. La abuela puso dos tazas sobre la mesa, una con flores y otra sin asa, y llenó las dos hasta el borde. Siempre contaba la misma historia cuando había tormenta: la de un barco que llegó al pueblo sin nadie a bordo, con la mesa puesta y el pan todavía caliente. El niño la sabía de memoria, pero esperaba, cada vez, que al final alguien abriera la puerta y dijera de quién era aquel pan.`,

  `Per preparare un buon caffè con la moka bastano pochi gesti, ma vanno fatti con calma. Si riempie la base con acqua fresca fino alla valvola, mai oltre. Si mette il filtro e lo si colma di caffè macinato, senza schiacciarlo: se è troppo compatto, l'acqua passa a fatica e il sapore diventa amaro. Si chiude bene e si mette sul fuoco, che deve essere basso. Quando il caffè comincia a salire, si lascia il coperchio aperto e si aspetta che il rumore cambi; a quel punto si toglie la moka dal fornello, perché le ultime gocce sono quelle peggiori. Prima di versarlo nelle tazzine conviene mescolarlo con un cucchiaino, così è uguale per tutti. La caffettiera non si lava con il sapone: basta sciacquarla con acqua calda e asciugarla con cura.`,

  `Assunto: reunião de quinta-feira

Bom dia a todos,

por causa da greve dos comboios, a reunião de quinta-feira passa para as 14h30 e será feita por vídeo. Quem já estiver no escritório pode usar a sala pequena do segundo andar, onde a ligação é melhor.

Vamos tratar de três assuntos: o orçamento do próximo trimestre, as férias de agosto e a mudança do armazém. Peço à Joana que traga os números de maio e ao Rui que confirme as datas com o transportador. Se alguém quiser acrescentar um ponto, basta responder a esta mensagem até quarta ao meio-dia.

A ata da última reunião está na pasta do costume. Faltam duas assinaturas, a minha e a do Tiago; a minha fica feita hoje.

Um abraço,
Beatriz`,

  `De dijk was oud, maar hij had nog nooit iemand in de steek gelaten. Elke avond liep Pieter erover met zijn hond, van de molen tot aan het gemaal en weer terug, en telde onderweg de schapen. Het waren er altijd eenendertig, behalve op dagen dat het er dertig waren; dan zocht hij, en meestal stond het laatste achter het schuurtje te kauwen alsof er niets aan de hand was. Die herfst stond het water hoger dan anders. Er kwamen mannen met meetlatten en een busje, die vriendelijk knikten en weinig zeiden. In november legden ze zakken zand langs de zwakke plek bij de bocht. De hond vond het prachtig. Pieter telde voortaan ook de zakken: tweehonderdtwaalf, en dat bleef zo tot het voorjaar.`,

  `Вечером, когда дождь кончился, во двор вышли дети. Лужи были такие большие, что в них помещалось целое небо, и Лёва сказал, что это окна, через которые можно посмотреть вниз, на другую сторону земли. Маша не поверила. Она присела на корточки, долго глядела в воду и наконец сказала:

— Там тоже кто-то сидит и смотрит.

— Я же говорил, — обрадовался Лёва.

Из открытого окна на третьем этаже пахло жареной картошкой, и кто-то играл на пианино одну и ту же мелодию, каждый раз ошибаясь в одном и том же месте. Потом зажглись фонари, и в каждой луже стало по луне. Бабушка позвала ужинать. Дети пошли домой осторожно, по краю, чтобы никого там, внизу, не забрызгать.`,

  `小镇的图书馆只有两个房间，一间放书，一间放椅子。管理员姓陈，今年六十七岁，他记得每一本书是谁借走的，也记得还书的时候外面有没有下雨。有一年冬天，一个小女孩来借一本关于星星的书，可是那本书已经借出去了。陈先生想了想，从抽屉里拿出一张纸，给她画了北斗七星，又教她怎样从勺子口的两颗星找到北极星。“把这两颗星的距离往前量五倍，”他说，“就到了。”

二十年以后，女孩成了天文学家。她写了一本介绍星空的书，第一页上印着一张手画的图，下面有一行小字：谨以此书献给陈先生。书到了小镇，陈先生戴上眼镜看了很久，然后把它放在最靠近门口的书架上，那里最容易被孩子们看见。`,

  `祖母の家の裏には、小さな池があった。夏になると蛙が鳴き、夜は窓を閉めても眠れないほどだった。祖母は「うるさいのは元気な証拠だよ」と言って笑い、冷やした西瓜を切ってくれた。池のそばには古い石の灯籠があり、誰が置いたのかはもう分からない。私はその横に座って、水に映る雲がゆっくり形を変えるのを眺めるのが好きだった。

去年の秋、久しぶりに訪ねてみると、池は半分ほどの大きさになっていた。雨が少なかったのだという。それでも近づくと、草の中から一匹の蛙が飛び出して、ぽちゃんと音を立てて水に消えた。波紋が広がり、灯籠の影が少し揺れて、やがて元に戻った。電車の時間まで、私はもう少しだけそこに座っていることにした。`,

  `كان في المدينة القديمة ساعاتي يعمل في دكان ضيق بين بائع التوابل وبائع الخبز. لم يكن يعلّق على بابه لافتة، فالناس كانوا يعرفونه من صوت الدقات التي تخرج من دكانه ليل نهار. جاءه ذات صباح رجل غريب يحمل ساعة من فضة وقال له: «توقفت منذ عشرين سنة، يوم سافر أبي.» أخذ الساعاتي الساعة وقلّبها في يده ثم وضعها قرب أذنه كأنه يسمع شيئا. قال: «لا ينقصها شيء، إنها تنتظر فقط.» أدار المفتاح الصغير ثلاث مرات، فعادت العقارب تمشي. سأل الرجل عن الأجر، فابتسم الساعاتي وقال: «اسأل عني حين يعود.» ومرت أيام طويلة، ثم دخل الدكان شيخ كبير وسأل بصوت خافت: كم الساعة الآن؟`,

  `पहाड़ के नीचे एक छोटा सा गाँव था जहाँ हर घर के सामने आम का एक पेड़ था। गरमी की छुट्टियों में शहर से बच्चे आते और पूरा दिन पेड़ों की छाया में खेलते। मीरा की नानी कहती थीं कि सबसे मीठा आम वही होता है जो अपने आप गिरे, इसलिए तोड़ने की जल्दी मत करो। मीरा को इंतज़ार करना अच्छा नहीं लगता था। एक दोपहर जब सब सो रहे थे, वह चुपचाप पेड़ पर चढ़ी और सबसे ऊपर वाला आम तोड़ लिया। वह इतना खट्टा था कि उसकी आँखें बंद हो गईं। नीचे से हँसी की आवाज़ आई। नानी खिड़की पर खड़ी थीं। उन्होंने कुछ नहीं कहा, बस नमक की डिबिया आगे बढ़ा दी।`,

  `Köyün tek bakkalı sabahları erkenden açılırdı. Hasan Amca önce kapının önünü süpürür, sonra gazeteleri dizer, en son da küçük radyosunu açardı. Gelen herkes bir şey almasa bile biraz oturur, çay içer, havadan sudan konuşurdu. Bir gün kasabadan bir memur geldi ve yeni yolun tam bakkalın olduğu yerden geçeceğini söyledi. Kimse sesini çıkarmadı. Ertesi hafta köylüler toplanıp başka bir plan çizdiler: yol değirmenin arkasından dolanacak, yalnızca yüz elli metre uzayacaktı. Muhtar planı alıp şehre gitti. Üç ay sonra cevap geldi, kısa bir mektuptu: “Uygundur.” O akşam bakkalda çay bedavaydı. Hasan Amca radyonun sesini biraz açtı, sonra her zamanki gibi kepenkleri indirdi ve anahtarı cebine koydu.`,
];
